{{- /* As our own pods, but as the user of the official images. */ -}}
{{- define "holdfast.trial.security" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}
