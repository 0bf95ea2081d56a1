{{- /* The environment of the containers, and the files that it refers to. */ -}}

{{- define "holdfast.env.telemetry" -}}
- name: HOLDFAST_LOG
  value: {{ .Values.telemetry.log | quote }}
- name: HOLDFAST_LOG_FORMAT
  value: {{ .Values.telemetry.logFormat }}
{{- with .Values.telemetry.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ $.Values.telemetry.traceRatio | quote }}
{{- end }}
{{- end -}}

{{- define "holdfast.env.auth" -}}
{{- with .Values.auth -}}
- name: HOLDFAST_AUTH
  value: {{ ternary "on" "off" .enabled | quote }}
{{- if not .enabled }}
- name: HOLDFAST_OPEN_TO_NETWORK
  value: "true"
{{- if not (hasKey $.Values.api.settings "HOLDFAST_ALLOWED_HOSTS") }}
{{- $name := include "holdfast.componentName" (dict "root" $ "component" "api") }}
{{- $inside := printf "%s.%s" $name $.Release.Namespace }}
{{- $names := list $name $inside (printf "%s.svc" $inside) (printf "%s.svc.cluster.local" $inside) }}
- name: HOLDFAST_ALLOWED_HOSTS
  value: {{ concat $names $.Values.ingress.hosts $.Values.httpRoute.hostnames | join "," | quote }}
{{- end }}
{{- end }}
{{- if .oidc.issuer }}
- name: HOLDFAST_OIDC_ISSUER
  value: {{ .oidc.issuer | quote }}
- name: HOLDFAST_OIDC_AUDIENCE
  value: {{ .oidc.audience | quote }}
- name: HOLDFAST_OIDC_ALGORITHMS
  value: {{ join "," .oidc.algorithms | quote }}
{{- with .oidc.customerClaim }}
- name: HOLDFAST_OIDC_CUSTOMER_CLAIM
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .rateLimit }}
- name: HOLDFAST_RATE_LIMIT
  value: {{ int64 . | quote }}
{{- end }}
{{- with .corsOrigins }}
- name: HOLDFAST_CORS_ORIGINS
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "holdfast.env.database" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "holdfast.database.secret" . }}
      key: {{ include "holdfast.database.key" . }}
{{- $ca := or .Values.database.tls.ca.secret .Values.database.tls.ca.configMap }}
{{- with .Values.database.tls.mode | default (ternary "verify-full" "" (not (empty $ca))) }}
- name: PGSSLMODE
  value: {{ . }}
{{- end }}
{{- if $ca }}
- name: PGSSLROOTCERT
  value: /etc/holdfast/tls/database/ca.crt
{{- end }}
{{- end -}}

{{- define "holdfast.env.databaseRead" -}}
{{- if or .Values.database.read.url .Values.database.read.existingSecret.name -}}
- name: DATABASE_READ_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "holdfast.databaseRead.secret" . }}
      key: {{ include "holdfast.databaseRead.key" . }}
{{- end -}}
{{- end -}}

{{- define "holdfast.env.redisCa" -}}
{{- if or .Values.redis.tls.ca.secret .Values.redis.tls.ca.configMap }}
- name: HOLDFAST_REDIS_CA_FILE
  value: /etc/holdfast/tls/redis/ca.crt
{{- end }}
{{- end -}}

{{- define "holdfast.env.redis" -}}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "holdfast.redis.secret" . }}
      key: {{ include "holdfast.redis.key" . }}
{{- include "holdfast.env.redisCa" . }}
{{- end -}}

{{- /* A component's own settings, and those that the user adds. */ -}}
{{- define "holdfast.env.component" -}}
{{- $values := get .root.Values .component -}}
- name: HOLDFAST_SHUTDOWN_TIMEOUT_MS
  value: {{ mul $values.shutdown.timeoutSeconds 1000 | quote }}
{{- range $name, $value := $values.settings }}
- name: {{ $name }}
  {{- /* Helm reads large integers as floats. */}}
  value: {{ (kindIs "float64" $value | ternary (toJson $value) $value) | quote }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "holdfast.envFrom" -}}
{{- with (get .root.Values .component).extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* One volume with a CA: (dict "name" "database-ca" "ca" {secret, configMap, key}). */ -}}
{{- define "holdfast.ca.volume" -}}
- name: {{ .name }}
{{- if .ca.secret }}
  secret:
    secretName: {{ .ca.secret }}
{{- else }}
  configMap:
    name: {{ .ca.configMap }}
{{- end }}
    items: [{key: {{ .ca.key }}, path: ca.crt}]
{{- end -}}

{{- /* (dict "root" $ "component" "api" "database" true) */ -}}
{{- define "holdfast.volumes" -}}
{{- $values := .root.Values -}}
{{- $own := get $values .component | default dict -}}
{{- with $values.database.tls.ca }}
{{- if and $.database (or .secret .configMap) }}
{{ include "holdfast.ca.volume" (dict "name" "database-ca" "ca" .) }}
{{- end }}
{{- end }}
{{- with $values.redis.tls.ca }}
{{- if and $.redis (or .secret .configMap) }}
{{ include "holdfast.ca.volume" (dict "name" "redis-ca" "ca" .) }}
{{- end }}
{{- end }}
{{- with $own.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "holdfast.volumeMounts" -}}
{{- $values := .root.Values -}}
{{- $own := get $values .component | default dict -}}
{{- if and .database (or $values.database.tls.ca.secret $values.database.tls.ca.configMap) }}
- {name: database-ca, mountPath: /etc/holdfast/tls/database, readOnly: true}
{{- end }}
{{- if and .redis (or $values.redis.tls.ca.secret $values.redis.tls.ca.configMap) }}
- {name: redis-ca, mountPath: /etc/holdfast/tls/redis, readOnly: true}
{{- end }}
{{- with $own.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
