{{- /* Objects that API, worker and operator share. A "part" is (dict "root" $ "component" "api"). */ -}}

{{- define "holdfast.object.serviceAccount" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
{{ include "holdfast.metadata" (dict "root" .root "component" .component "name" (include "holdfast.part.serviceAccountName" .) "annotations" $account.annotations) }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{- define "holdfast.object.pdb" -}}
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
      {{- include "holdfast.part.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- /* (… "limits" {minReplicas, maxReplicas, behavior} "metric" "- type: …") */ -}}
{{- define "holdfast.object.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{{ include "holdfast.metadata" . }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "holdfast.part.name" . }}
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
