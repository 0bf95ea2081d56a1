{{- /* Ports in URLs, for NetworkPolicies. Does not use a URL parser, because its errors would show passwords. */ -}}

{{- /* (dict "url" "…" "default" 5432) */ -}}
{{- define "holdfast.urlPort" -}}
{{- $authority := regexReplaceAll "^[a-zA-Z0-9+.-]+://([^/?#]*@)?([^/?#]*).*$" .url "${2}" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" -}}
{{- $port | default .default -}}
{{- end -}}

{{- define "holdfast.httpPort" -}}
{{- include "holdfast.urlPort" (dict "url" . "default" (ternary 443 80 (hasPrefix "https:" .))) -}}
{{- end -}}
