{{- /* The queues of this release and of others; empty if there are no others. */ -}}
{{- define "holdfast.operator.queues" -}}
{{- with .Values.operator.queues -}}
queues:
  - namespace: {{ $.Release.Namespace }}
    queue: orders
    release: {{ include "holdfast.release" $ }}
    redisUrlFile: /etc/holdfast/redis/url
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "holdfast.operator.volumes" -}}
{{- include "holdfast.volumes" . }}
{{- if .root.Values.operator.queues }}
- name: queues
  configMap:
    name: {{ include "holdfast.componentName" . }}-queues
- name: redis-url
  secret:
    secretName: {{ include "holdfast.redis.secret" .root }}
    items: [{key: {{ include "holdfast.redis.key" .root }}, path: url}]
{{- end }}
{{- with .root.Values.operator.tls.existingSecret }}
- name: serving-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- end -}}

{{- define "holdfast.operator.volumeMounts" -}}
{{- include "holdfast.volumeMounts" . }}
{{- if .root.Values.operator.queues }}
- {name: queues, mountPath: /etc/holdfast/queues, readOnly: true}
- {name: redis-url, mountPath: /etc/holdfast/redis, readOnly: true}
{{- end }}
{{- if .root.Values.operator.tls.existingSecret }}
- {name: serving-tls, mountPath: /etc/holdfast/tls/serving, readOnly: true}
{{- end }}
{{- end -}}
