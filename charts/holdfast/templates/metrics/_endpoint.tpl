{{- /* What PodMonitor and ServiceMonitor share. */ -}}
{{- define "holdfast.metrics.selector" -}}
matchLabels:
  app.kubernetes.io/name: {{ include "holdfast.name" . }}
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [api, worker, operator]}
{{- end -}}

{{- define "holdfast.metrics.endpoint" -}}
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
relabelings:
  # As in the external metric.
  - {targetLabel: release, replacement: {{ .root.Release.Name }}}
{{- end -}}
