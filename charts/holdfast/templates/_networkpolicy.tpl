{{- /* Rules of NetworkPolicies. A "context" is (dict "root" $ "component" "api"). */ -}}

{{- /* The connections within the release. The rules of both sides are generated from this list. */ -}}
{{- define "holdfast.networkPolicy.connections" -}}
- {from: api, to: postgresql}
- {from: worker, to: postgresql}
- {from: migrations, to: postgresql}
- {from: operator, to: postgresql}
- {from: api, to: redis}
- {from: worker, to: redis}
- {from: operator, to: redis}
- {from: test, to: api}
{{- if .Values.backup.enabled }}
- {from: backup, to: postgresql}
{{- end }}
{{- end -}}

{{- define "holdfast.networkPolicy.head" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{{ include "holdfast.metadata" . }}
spec:
  podSelector:
    matchLabels:
      {{- include "holdfast.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{- /* Who may read the metrics. Policies do not affect the kubelet's probes. */ -}}
{{- define "holdfast.networkPolicy.metrics" -}}
- ports: [{port: metrics}]
  {{- with .Values.networkPolicy.metricsFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  from: [{namespaceSelector: {}}]
  {{- end }}
{{- end -}}

{{- /* The connections that a component may open: to DNS, to the trace collector, to the servers in the list above, and to what the user adds. */ -}}
{{- define "holdfast.networkPolicy.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- with include "holdfast.networkPolicy.otlpPorts" . | fromJsonArray }}
- ports:
    {{- range . }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- range include "holdfast.networkPolicy.connections" .root | fromYamlArray }}
{{- if eq .from $.component }}
{{- if eq .to "postgresql" }}
{{ include "holdfast.networkPolicy.egress.database" $.root }}
{{- if eq $.component "api" }}
{{- with include "holdfast.networkPolicy.egress.databaseRead" $.root }}
{{ . }}
{{- end }}
{{- end }}
{{- else if eq .to "redis" }}
{{ include "holdfast.networkPolicy.egress.redis" $.root }}
{{- else }}
- ports: [{port: http}]
  to:
    {{- include "holdfast.networkPolicy.pods" (dict "root" $.root "components" (list .to)) | trim | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The pods of the release that may connect to a component. */ -}}
{{- define "holdfast.networkPolicy.from" -}}
{{- $components := list -}}
{{- range include "holdfast.networkPolicy.connections" .root | fromYamlArray -}}
{{- if eq .to $.component -}}
{{- $components = append $components .from -}}
{{- end -}}
{{- end -}}
{{- include "holdfast.networkPolicy.pods" (dict "root" .root "components" $components) | trim -}}
{{- end -}}

{{- /* Ports of the trace collector, from any of its settings. */ -}}
{{- define "holdfast.networkPolicy.otlpPorts" -}}
{{- $values := .root.Values -}}
{{- /* The migrations use api.extraEnv but not api.settings. */ -}}
{{- $own := get $values (ternary "api" .component (eq .component "migrations")) | default dict -}}
{{- $settings := ternary dict ($own.settings | default dict) (eq .component "migrations") -}}
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
{{- range $own.extraEnv -}}
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

{{- define "holdfast.networkPolicy.egress.database" -}}
{{- if .Values.trial.postgresql.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "holdfast.selectorLabels" (dict "root" . "component" "postgresql") | nindent 10 }}
  ports: [{port: 5432}]
{{- else -}}
- ports: [{port: {{ include "holdfast.urlPort" (dict "url" .Values.database.url "default" .Values.networkPolicy.databasePort) }}}]
{{- end -}}
{{- end -}}

{{- /* The read replicas need a rule only if their port differs from the primary's. */ -}}
{{- define "holdfast.networkPolicy.egress.databaseRead" -}}
{{- $primary := include "holdfast.urlPort" (dict "url" .Values.database.url "default" .Values.networkPolicy.databasePort) -}}
{{- with .Values.database.read.url -}}
{{- $port := include "holdfast.urlPort" (dict "url" . "default" 5432) -}}
{{- if ne $port $primary -}}
- ports: [{port: {{ $port }}}]
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.networkPolicy.egress.redis" -}}
{{- if .Values.trial.redis.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "holdfast.selectorLabels" (dict "root" . "component" "redis") | nindent 10 }}
  ports: [{port: 6379}]
{{- else -}}
- ports: {{ include "holdfast.redisPorts" (dict "root" . "url" .Values.redis.url) }}
{{- end -}}
{{- end -}}

{{- /* The ports of a Redis URL, which may have several hosts, as JSON for a rule: (dict "root" $ "url" "…"). Without a URL, the ports come from the values. Sentinels and clusters name further servers, whose ports must be open, too. */ -}}
{{- define "holdfast.redisPorts" -}}
{{- $values := .root.Values.networkPolicy -}}
{{- $ports := list -}}
{{- if .url -}}
{{- $default := ternary 26379 6379 (contains "+sentinel://" .url) -}}
{{- $authority := regexReplaceAll "^([a-zA-Z0-9+.-]+://)([^/?#]*@)?([^/?#]*).*$" .url "${1}${3}" -}}
{{- $scheme := regexFind "^[a-zA-Z0-9+.-]+://" $authority -}}
{{- range splitList "," (trimPrefix $scheme $authority) -}}
{{- $ports = append $ports (include "holdfast.urlPort" (dict "url" (print $scheme .) "default" $default) | int) -}}
{{- end -}}
{{- else -}}
{{- with $values.sentinelPort -}}
{{- $ports = append $ports (. | int) -}}
{{- end -}}
{{- end -}}
{{- if or (not .url) (regexMatch "^[a-z]+[+]" .url) -}}
{{- $ports = append $ports ($values.redisPort | int) -}}
{{- end -}}
{{- $rules := list -}}
{{- range uniq $ports -}}
{{- $rules = append $rules (dict "port" .) -}}
{{- end -}}
{{- $rules | toJson -}}
{{- end -}}

{{- /* Pods of this release: (dict "root" $ "components" (list "api" "worker")) */ -}}
{{- define "holdfast.networkPolicy.pods" -}}
{{- range .components }}
- podSelector:
    matchLabels:
      {{- include "holdfast.selectorLabels" (dict "root" $.root "component" .) | nindent 6 }}
{{- end }}
{{- end -}}
{{- /* Ports in URLs, for NetworkPolicies. Helm's URL parser is not used, because its errors contain the URL with the password. */ -}}

{{- /* (dict "url" "…" "default" 5432) */ -}}
{{- define "holdfast.urlPort" -}}
{{- $authority := regexReplaceAll "^[a-zA-Z0-9+.-]+://([^/?#]*@)?([^/?#]*).*$" .url "${2}" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" -}}
{{- $port | default .default -}}
{{- end -}}

{{- define "holdfast.httpPort" -}}
{{- include "holdfast.urlPort" (dict "url" . "default" (ternary 443 80 (hasPrefix "https:" .))) -}}
{{- end -}}
