{{- /* The common parts of PodMonitor and ServiceMonitor. */ -}}
{{- define "holdfast.metrics.selector" -}}
matchLabels:
  app.kubernetes.io/name: {{ include "holdfast.name" . }}
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [api, worker, operator]}
{{- end -}}

{{- define "holdfast.metrics.endpoint" -}}
path: /metrics
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
relabelings:
  # As in the external metric.
  - {targetLabel: release, replacement: {{ include "holdfast.release" .root }}}
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
