{{- /* Names, labels and common parts of pods. A "context" is (dict "root" $ "component" "api"), with "values" if the component's
       values are not .Values.<component>. */ -}}

{{- /* At most 63 characters and no dots, as names of Services. A name that has to be changed ends with a hash of
       the original, so that different names stay different. 40 characters leave room for suffixes. */ -}}
{{- define "holdfast.safeName" -}}
{{- $safe := replace "." "-" . -}}
{{- if regexMatch "^[0-9]" $safe -}}
{{- $safe = printf "h%s" $safe -}}
{{- end -}}
{{- if or (ne $safe .) (gt (len $safe) 40) -}}
{{- printf "%s-%s" ($safe | trunc 31 | trimAll "-") (sha256sum . | trunc 8) -}}
{{- else -}}
{{- $safe -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The prefix of all names. */ -}}
{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- include "holdfast.safeName" .Values.fullnameOverride -}}
{{- else if contains (include "holdfast.name" .) .Release.Name -}}
{{- include "holdfast.safeName" .Release.Name -}}
{{- else -}}
{{- include "holdfast.safeName" (printf "%s-%s" .Release.Name (include "holdfast.name" .)) -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.componentName" -}}
{{- printf "%s-%s" (include "holdfast.fullname" .root) .component -}}
{{- end -}}

{{- /* The name of an object without a namespace. A namespace contains no dot, so no two releases get the same name. */ -}}
{{- define "holdfast.clusterName" -}}
{{- printf "%s.%s" .Release.Namespace (include "holdfast.fullname" .) -}}
{{- end -}}

{{- /* The label `release` of metrics. Under an alias one release may contain this chart more than once. */ -}}
{{- define "holdfast.release" -}}
{{- ternary .Release.Name (include "holdfast.fullname" .) (eq .Chart.Name "holdfast") -}}
{{- end -}}

{{- define "holdfast.selectorLabels" -}}
app.kubernetes.io/name: {{ include "holdfast.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: holdfast
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The labels of pods. They do not contain the chart's version, because a new version would then replace unchanged pods. */ -}}
{{- define "holdfast.podLabels" -}}
{{ include "holdfast.selectorLabels" . }}
app.kubernetes.io/part-of: holdfast
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with (.values | default (get .root.Values .component)).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The whole metadata: name, namespace unless .cluster, labels, and annotations of the chart and of .annotations. */ -}}
{{- define "holdfast.metadata" -}}
metadata:
  name: {{ .name | default (include "holdfast.componentName" .) }}
  {{- if not .cluster }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  {{- end }}
  labels:
    {{- include "holdfast.labels" . | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "holdfast.serviceAccountName" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (include "holdfast.componentName" .) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.priorityClassName" -}}
{{- with .Values.priorityClass -}}
{{- .name | default (ternary (include "holdfast.clusterName" $) "" .create) -}}
{{- end -}}
{{- end -}}

{{- /* The reference of an image, from global.imageRegistry if that is set: (dict "root" $ "reference" "docker.io/library/redis:7") */ -}}
{{- define "holdfast.imageReference" -}}
{{- $registry := dig "imageRegistry" "" (.root.Values.global | default dict) -}}
{{- $first := .reference | splitList "/" | first -}}
{{- if not $registry -}}
{{- .reference -}}
{{- else if and (contains "/" .reference) (or (regexMatch "[.:]" $first) (eq $first "localhost")) -}}
{{- printf "%s/%s" $registry (trimPrefix (printf "%s/" $first) .reference) -}}
{{- else -}}
{{- printf "%s/%s" $registry .reference -}}
{{- end -}}
{{- end -}}

{{- /* One of the images of Holdfast. */ -}}
{{- define "holdfast.image" -}}
{{- $image := .image | default (get .root.Values .component).image -}}
{{- $all := .root.Values.image -}}
{{- $version := printf ":%s" ($image.tag | default $all.tag | default .root.Chart.AppVersion) -}}
{{- if $image.digest -}}
{{- $version = printf "@%s" $image.digest -}}
{{- end -}}
{{- include "holdfast.imageReference" (dict "root" .root "reference" (printf "%s/%s%s" $all.registry $image.repository $version)) -}}
{{- end -}}

{{- define "holdfast.imagePullSecrets" -}}
{{- $names := list -}}
{{- range concat (dig "imagePullSecrets" list (.Values.global | default dict)) .Values.imagePullSecrets .Values.image.pullSecrets -}}
{{- $names = append $names (kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name")) -}}
{{- end -}}
{{- with uniq $names }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* Overrides the keys of one map with those of another, and removes keys that are null. Unlike with `merge`, `false` overrides `true`. */ -}}
{{- define "holdfast.overlay" -}}
{{- $result := dict -}}
{{- range . -}}
{{- range $key, $value := . -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $result $key -}}
{{- else -}}
{{- $_ := set $result $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $result -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.podSecurityContext" -}}
{{- $values := .values | default (get .root.Values .component) -}}
{{- with include "holdfast.overlay" (list .root.Values.podSecurityContext $values.podSecurityContext) }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "holdfast.securityContext" -}}
{{- $values := .values | default (get .root.Values .component) -}}
{{- with include "holdfast.overlay" (list .root.Values.securityContext $values.securityContext) }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "holdfast.podAnnotations" -}}
{{- $values := .values | default (get .root.Values .component) -}}
{{- $annotations := dict -}}
{{- if .root.Values.metrics.podAnnotations -}}
{{- $_ := set $annotations "prometheus.io/scrape" "true" -}}
{{- $_ := set $annotations "prometheus.io/port" "9464" -}}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- /* A pod reads its Secrets only when it starts, so a change of them must replace the pods. */ -}}
{{- $secrets := include "holdfast.secrets" .root -}}
{{- if $secrets -}}
{{- $_ := set $annotations "checksum/secrets" (sha256sum $secrets) -}}
{{- end -}}
{{- range $name, $text := .checksums -}}
{{- $_ := set $annotations (printf "checksum/%s" $name) (sha256sum $text) -}}
{{- end -}}
{{- with merge $annotations $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* nodeSelector, tolerations and affinity. The migrations and the test pod have those of the API, unless they have their own. */ -}}
{{- define "holdfast.scheduling" -}}
{{- $own := .values | default (get .root.Values .component) -}}
{{- $values := dict -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" -}}
{{- $value := get $own $key -}}
{{- if and (not $value) (has $.component (list "migrations" "test")) -}}
{{- $value = get $.root.Values.api $key -}}
{{- end -}}
{{- with $value -}}
{{- $_ := set $values $key . -}}
{{- end -}}
{{- end -}}
{{- with $values }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "holdfast.topologySpread" -}}
{{- $values := .values | default (get .root.Values .component) -}}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "holdfast.selectorLabels" $ | nindent 8 }}
    # Count only pods of one revision, or a rollout would leave them uneven.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{- /* The common beginning of every pod's spec. With "account", the component whose service account it has. */ -}}
{{- define "holdfast.pod" -}}
{{- $values := .values | default (get .root.Values .component) -}}
{{- with .account }}
serviceAccountName: {{ include "holdfast.serviceAccountName" (dict "root" $.root "component" .) }}
{{- end }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- include "holdfast.imagePullSecrets" .root }}
{{- include "holdfast.podSecurityContext" . }}
{{- with $values.priorityClassName | default (ternary (include "holdfast.priorityClassName" .root) "" (hasKey . "replicated")) }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with $values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "holdfast.scheduling" . }}
{{- if .replicated }}
{{ include "holdfast.topologySpread" . }}
{{- end }}
{{- with $values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The common beginning of the containers with Holdfast's images: (… "args" (list "serve")) */ -}}
{{- define "holdfast.container" -}}
{{- $values := .values | default (get .root.Values .component) -}}
image: {{ include "holdfast.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: {{ concat .args ($values.extraArgs | default list) | toJson }}
{{- include "holdfast.securityContext" . }}
{{- with $values.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "holdfast.probes" -}}
{{- $probes := (get .root.Values .component).probes -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  {{- toYaml $probes.startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  {{- toYaml $probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  {{- toYaml $probes.readiness | nindent 2 }}
{{- end -}}

{{- /* The drain and shutdown times, and 10 s to export the last traces. */ -}}
{{- define "holdfast.terminationGracePeriodSeconds" -}}
{{- $values := get .root.Values .component -}}
{{- add ($values.shutdown.drainSeconds | default 0) $values.shutdown.timeoutSeconds 10 -}}
{{- end -}}

{{- /* Helm merges maps, so the default's rollingUpdate is still there with `type: Recreate`. */ -}}
{{- define "holdfast.strategy" -}}
{{- $strategy := (get .root.Values .component).strategy -}}
strategy:
  {{- ternary (omit $strategy "rollingUpdate") $strategy (ne $strategy.type "RollingUpdate") | toYaml | nindent 2 }}
{{- end -}}

{{- define "holdfast.serviceAccount" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
{{ include "holdfast.metadata" (dict "root" .root "component" .component "name" (include "holdfast.serviceAccountName" .) "annotations" $account.annotations) }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{- define "holdfast.podDisruptionBudget" -}}
{{- $pdb := (get .root.Values .component).pdb -}}
{{- if $pdb.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "holdfast.metadata" . }}
spec:
  maxUnavailable: {{ $pdb.maxUnavailable }}
  # A pod that is not ready must not block draining a node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "holdfast.selectorLabels" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- /* (… "limits" {minReplicas, maxReplicas, behavior} "metric" "- type: …") */ -}}
{{- define "holdfast.horizontalPodAutoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{{ include "holdfast.metadata" . }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "holdfast.componentName" . }}
  minReplicas: {{ .limits.minReplicas }}
  maxReplicas: {{ .limits.maxReplicas }}
  metrics:
    {{- .metric | nindent 4 }}
  {{- with .limits.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "holdfast.metric.cpu" -}}
- type: Resource
  resource:
    name: cpu
    target:
      type: Utilization
      averageUtilization: {{ . }}
{{- end -}}

{{- define "holdfast.database.secret" -}}
{{- .Values.database.existingSecret.name | default (printf "%s-database" (include "holdfast.fullname" .)) -}}
{{- end -}}

{{- define "holdfast.databaseRead.secret" -}}
{{- .Values.database.read.existingSecret.name | default (printf "%s-database-read" (include "holdfast.fullname" .)) -}}
{{- end -}}

{{- define "holdfast.redis.secret" -}}
{{- .Values.redis.existingSecret.name | default (printf "%s-redis" (include "holdfast.fullname" .)) -}}
{{- end -}}

{{- /* In Secrets that the chart creates, the keys are always the defaults. */ -}}
{{- define "holdfast.database.key" -}}
{{- ternary .Values.database.existingSecret.key "url" (ne .Values.database.existingSecret.name "") -}}
{{- end -}}

{{- define "holdfast.databaseRead.key" -}}
{{- ternary .Values.database.read.existingSecret.key "url" (ne .Values.database.read.existingSecret.name "") -}}
{{- end -}}

{{- define "holdfast.redis.key" -}}
{{- ternary .Values.redis.existingSecret.key "url" (ne .Values.redis.existingSecret.name "") -}}
{{- end -}}


{{- /* Whether the operator of this release serves the cluster's external metrics API. */ -}}
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
{{- if $scaling.api.enabled -}}HorizontalPodAutoscaler/{{ include "holdfast.componentName" . }}{{- end -}}
{{- else if eq $scaling.provider "keda" -}}
ScaledObject/{{ include "holdfast.componentName" . }}
{{- else if ne $scaling.provider "none" -}}
HorizontalPodAutoscaler/{{ include "holdfast.componentName" . }}
{{- end -}}
{{- end -}}
