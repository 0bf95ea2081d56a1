{{- /* Rules of NetworkPolicies. A "part" is (dict "root" $ "component" "api"). */ -}}

{{- /* The connections within the release. The rules of both sides are generated from this list, so they agree. */ -}}
{{- define "holdfast.netpol.connections" -}}
- {from: api, to: postgresql}
- {from: worker, to: postgresql}
- {from: migrations, to: postgresql}
- {from: operator, to: postgresql}
- {from: api, to: redis}
- {from: worker, to: redis}
- {from: operator, to: redis}
- {from: test, to: api}
{{- end -}}

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

{{- /* The clients of the metrics. Policies do not affect the kubelet's probes. */ -}}
{{- define "holdfast.netpol.metrics" -}}
- ports: [{port: metrics}]
  {{- with .Values.networkPolicy.metricsFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  from: [{namespaceSelector: {}}]
  {{- end }}
{{- end -}}

{{- /* What a part may reach: DNS, the trace collector, the servers of the list above, and what the user adds. */ -}}
{{- define "holdfast.netpol.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- with include "holdfast.netpol.otlpPorts" . | fromJsonArray }}
- ports:
    {{- range . }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- range include "holdfast.netpol.connections" .root | fromYamlArray }}
{{- if eq .from $.component }}
{{- if eq .to "postgresql" }}
{{ include "holdfast.netpol.egress.database" $.root }}
{{- else if eq .to "redis" }}
{{ include "holdfast.netpol.egress.redis" $.root }}
{{- else }}
- ports: [{port: http}]
  to:
    {{- include "holdfast.netpol.pods" (dict "root" $.root "components" (list .to)) | trim | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The pods of the release that may reach a part. */ -}}
{{- define "holdfast.netpol.from" -}}
{{- $components := list -}}
{{- range include "holdfast.netpol.connections" .root | fromYamlArray -}}
{{- if eq .to $.component -}}
{{- $components = append $components .from -}}
{{- end -}}
{{- end -}}
{{- include "holdfast.netpol.pods" (dict "root" .root "components" $components) | trim -}}
{{- end -}}

{{- /* Ports of the trace collector, from any of its settings. */ -}}
{{- define "holdfast.netpol.otlpPorts" -}}
{{- $values := .root.Values -}}
{{- /* The migrations have the extra environment of the API, and no settings. */ -}}
{{- $part := get $values (ternary "api" .component (eq .component "migrations")) | default dict -}}
{{- $settings := ternary dict ($part.settings | default dict) (eq .component "migrations") -}}
{{- $names := list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" -}}
{{- $urls := list -}}
{{- if ne .component "test" -}}
{{- with $values.telemetry.otlpEndpoint -}}
{{- $urls = append $urls . -}}
{{- end -}}
{{- range $name := $names -}}
{{- with get $settings $name -}}
{{- $urls = append $urls . -}}
{{- end -}}
{{- end -}}
{{- range $part.extraEnv -}}
{{- if and (has .name $names) .value -}}
{{- $urls = append $urls .value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports := list -}}
{{- range $urls -}}
{{- $ports = append $ports (include "holdfast.httpPort" . | int) -}}
{{- end -}}
{{- uniq $ports | toJson -}}
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
