{{- /* Rules of NetworkPolicies. A "part" is (dict "root" $ "component" "api"). */ -}}

{{- define "holdfast.netpol.head" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{{ include "holdfast.metadata" . }}
spec:
  podSelector:
    matchLabels:
      {{- include "holdfast.part.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{- /* Who reads metrics. Kubelets' probes come from the node, which policies do not bind. */ -}}
{{- define "holdfast.netpol.metrics" -}}
- ports: [{port: metrics}]
  {{- with .Values.networkPolicy.metricsFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  from: [{namespaceSelector: {}}]
  {{- end }}
{{- end -}}

{{- /* What every pod may reach: DNS, the collector of traces, and what the user adds. */ -}}
{{- define "holdfast.netpol.egress.all" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- with .Values.telemetry.otlpEndpoint }}
- ports: [{port: {{ include "holdfast.httpPort" . }}}]
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "holdfast.netpol.egress.database" -}}
{{- if .Values.trial.postgresql.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "holdfast.part.selector" (dict "root" . "component" "postgresql") | nindent 10 }}
  ports: [{port: 5432}]
{{- else -}}
- ports: [{port: {{ include "holdfast.urlPort" (dict "url" .Values.database.url "default" .Values.networkPolicy.databasePort) }}}]
{{- end -}}
{{- end -}}

{{- define "holdfast.netpol.egress.redis" -}}
{{- if .Values.trial.redis.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "holdfast.part.selector" (dict "root" . "component" "redis") | nindent 10 }}
  ports: [{port: 6379}]
{{- else -}}
- ports: [{port: {{ include "holdfast.urlPort" (dict "url" .Values.redis.url "default" .Values.networkPolicy.redisPort) }}}]
{{- end -}}
{{- end -}}

{{- /* Pods of this release: (dict "root" $ "components" (list "api" "worker")) */ -}}
{{- define "holdfast.netpol.pods" -}}
{{- range .components }}
- podSelector:
    matchLabels:
      {{- include "holdfast.part.selector" (dict "root" $.root "component" .) | nindent 6 }}
{{- end }}
{{- end -}}
