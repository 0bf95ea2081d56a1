{{- /* Names and labels. A "part" is (dict "root" $ "component" "api"). */ -}}

{{- define "holdfast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* The prefix of all names; 40 characters leave room for suffixes within the 63 of a label. */ -}}
{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "holdfast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "holdfast.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.part.name" -}}
{{- printf "%s-%s" (include "holdfast.fullname" .root) .component -}}
{{- end -}}

{{- /* Of an object without a namespace. */ -}}
{{- define "holdfast.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "holdfast.fullname" .) -}}
{{- end -}}

{{- define "holdfast.part.selector" -}}
app.kubernetes.io/name: {{ include "holdfast.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "holdfast.part.labels" -}}
{{ include "holdfast.part.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: holdfast
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Of pods. Nothing that changes with the chart's version, because that would replace unchanged pods. */ -}}
{{- define "holdfast.pod.labels" -}}
{{ include "holdfast.part.selector" . }}
app.kubernetes.io/part-of: holdfast
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The whole metadata: name, namespace unless .cluster, labels, and annotations of the chart and of .annotations. */ -}}
{{- define "holdfast.metadata" -}}
metadata:
  name: {{ .name | default (include "holdfast.part.name" .) }}
  {{- if not .cluster }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  {{- end }}
  labels:
    {{- include "holdfast.part.labels" . | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "holdfast.part.serviceAccountName" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (include "holdfast.part.name" .) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.part.image" -}}
{{- $image := .image | default (get .root.Values .component).image -}}
{{- $all := .root.Values.image -}}
{{- if $image.digest -}}
{{- printf "%s/%s@%s" $all.registry $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s/%s:%s" $all.registry $image.repository ($image.tag | default $all.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.database.secret" -}}
{{- .Values.database.existingSecret.name | default (printf "%s-database" (include "holdfast.fullname" .)) -}}
{{- end -}}

{{- define "holdfast.redis.secret" -}}
{{- .Values.redis.existingSecret.name | default (printf "%s-redis" (include "holdfast.fullname" .)) -}}
{{- end -}}

{{- /* Keys of the Secrets that the chart makes itself are always the defaults. */ -}}
{{- define "holdfast.database.key" -}}
{{- ternary .Values.database.existingSecret.key "url" (ne .Values.database.existingSecret.name "") -}}
{{- end -}}

{{- define "holdfast.redis.key" -}}
{{- ternary .Values.redis.existingSecret.key "url" (ne .Values.redis.existingSecret.name "") -}}
{{- end -}}

{{- /* "true" where this release deploys the operator. */ -}}
{{- /* Whether this release's operator is the cluster's external metrics API. */ -}}
{{- define "holdfast.operator.serves" -}}
{{- if and (eq .Values.autoscaling.provider "operator") .Values.operator.deploy -}}true{{- end -}}
{{- end -}}

{{- define "holdfast.operator.deployed" -}}
{{- if or (include "holdfast.operator.serves" .) .Values.operator.forSales -}}true{{- end -}}
{{- end -}}

{{- /* The autoscaler whose minimum a FlashSale raises, as Kind/name; empty if there is none: (dict "root" $ "component" "worker") */ -}}
{{- define "holdfast.operator.autoscaler" -}}
{{- $scaling := .root.Values.autoscaling -}}
{{- if eq .component "api" -}}
{{- if $scaling.api.enabled -}}HorizontalPodAutoscaler/{{ include "holdfast.part.name" . }}{{- end -}}
{{- else if eq $scaling.provider "keda" -}}
ScaledObject/{{ include "holdfast.part.name" . }}
{{- else if ne $scaling.provider "none" -}}
HorizontalPodAutoscaler/{{ include "holdfast.part.name" . }}
{{- end -}}
{{- end -}}
