{{- /* What all pods share. A "part" is (dict "root" $ "component" "api"). */ -}}

{{- define "holdfast.pod.annotations" -}}
{{- $part := get .root.Values .component -}}
{{- $annotations := dict -}}
{{- if .root.Values.metrics.podAnnotations -}}
{{- $_ := set $annotations "prometheus.io/scrape" "true" -}}
{{- $_ := set $annotations "prometheus.io/port" "9464" -}}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- /* A pod reads its Secrets at the start, so a change of our Secrets must replace the pods. */ -}}
{{- $secrets := include "holdfast.secrets" .root -}}
{{- if $secrets -}}
{{- $_ := set $annotations "checksum/secrets" (sha256sum $secrets) -}}
{{- end -}}
{{- range $name, $text := .checksums -}}
{{- $_ := set $annotations (printf "checksum/%s" $name) (sha256sum $text) -}}
{{- end -}}
{{- with merge $annotations $part.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "holdfast.pod.security" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "holdfast.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "holdfast.pod.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "holdfast.priorityClassName" -}}
{{- with .Values.priorityClass -}}
{{- .name | default (ternary (include "holdfast.clusterName" $) "" .create) -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.pod.nodes" -}}
{{- $part := get .root.Values .component -}}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "holdfast.pod.placement" -}}
{{- $part := get .root.Values .component -}}
{{- with $part.priorityClassName | default (include "holdfast.priorityClassName" .root) }}
priorityClassName: {{ . }}
{{- end }}
{{- include "holdfast.pod.nodes" . }}
topologySpreadConstraints:
{{- if $part.topologySpreadConstraints }}
  {{- toYaml $part.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "holdfast.part.selector" $ | nindent 8 }}
    # Count only pods of one revision, or a rollout would leave them uneven.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{- define "holdfast.container.probes" -}}
{{- $probes := (get .root.Values .component).probes -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  {{- toYaml $probes.startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  {{- toYaml $probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  {{- toYaml $probes.readiness | nindent 2 }}
{{- end -}}

{{- /* The drain and shutdown times, and 10 s to spare for the last traces. */ -}}
{{- define "holdfast.pod.gracePeriod" -}}
{{- $shutdown := (get .root.Values .component).shutdown -}}
{{- add ($shutdown.drainSeconds | default 0) $shutdown.timeoutSeconds 10 -}}
{{- end -}}
