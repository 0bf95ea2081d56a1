{{- /* The contents of the Secrets that the chart creates. */ -}}

{{- /* The password of a trial server: the value, otherwise that of the installed release, otherwise a random one, which
       is kept in the values so that every template of this rendering sees the same. (dict "root" $ "server"
       "postgresql" "secret" "holdfast-database") */ -}}
{{- define "holdfast.trial.password" -}}
{{- $server := get .root.Values.trial .server -}}
{{- if not $server.password -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $kept := dig "data" "password" "" ($found | default dict) | b64dec -}}
{{- $_ := set $server "password" ($kept | default (randAlphaNum 32)) -}}
{{- end -}}
{{- $server.password -}}
{{- end -}}

{{- define "holdfast.secrets.database" -}}
{{- if not .Values.database.existingSecret.name -}}
{{- if .Values.database.url -}}
url: {{ .Values.database.url | quote }}
{{- else -}}
{{- $password := include "holdfast.trial.password" (dict "root" . "server" "postgresql" "secret" (include "holdfast.database.secret" .)) -}}
url: {{ printf "postgres://holdfast:%s@%s-postgresql.%s.svc:5432/holdfast" $password (include "holdfast.fullname" .) .Release.Namespace | quote }}
password: {{ $password | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.secrets.database-read" -}}
{{- with .Values.database.read.url -}}
url: {{ . | quote }}
{{- end -}}
{{- end -}}

{{- define "holdfast.secrets.redis" -}}
{{- if not .Values.redis.existingSecret.name -}}
{{- if .Values.redis.url -}}
url: {{ .Values.redis.url | quote }}
{{- else -}}
{{- $password := include "holdfast.trial.password" (dict "root" . "server" "redis" "secret" (include "holdfast.redis.secret" .)) -}}
url: {{ printf "redis://:%s@%s-redis.%s.svc:6379/0" $password (include "holdfast.fullname" .) .Release.Namespace | quote }}
password: {{ $password | quote }}
# The password is in a file, because other processes can see command lines.
redis.conf: {{ printf "requirepass %s\n" $password | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.secrets.webhook" -}}
{{- if and (eq .Values.worker.fulfilment "webhook") (not .Values.worker.webhook.existingSecret.name) -}}
secret: {{ .Values.worker.webhook.secret | quote }}
{{- end -}}
{{- end -}}

{{- /* All Secrets, for the checksum in the pods' annotations. */ -}}
{{- define "holdfast.secrets" -}}
{{- include "holdfast.secrets.database" . -}}
{{- include "holdfast.secrets.database-read" . -}}
{{- include "holdfast.secrets.redis" . -}}
{{- include "holdfast.secrets.webhook" . -}}
{{- end -}}
