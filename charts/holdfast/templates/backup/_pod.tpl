{{- /* The common parts of the backup and the restore. The context is (dict "root" $ "component" "backup"). */ -}}

{{- define "holdfast.backup.metadata" -}}
metadata:
  labels:
    {{- include "holdfast.podLabels" . | nindent 4 }}
  {{- with .root.Values.backup.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* The common beginning of each container: (… "image" "docker.io/library/postgres:17") */ -}}
{{- define "holdfast.backup.container" -}}
image: {{ include "holdfast.imageReference" (dict "root" .root "reference" .image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- include "holdfast.securityContext" (dict "root" .root "component" "backup") }}
resources:
  {{- toYaml .root.Values.backup.resources | nindent 2 }}
volumeMounts:
  - {name: scripts, mountPath: /scripts, readOnly: true}
  - {name: dumps, mountPath: /dumps}
  - {name: tmp, mountPath: /tmp}
  {{- with include "holdfast.volumeMounts" (dict "root" .root "component" "backup" "database" true) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "holdfast.backup.env.extra" -}}
{{- with .Values.backup.extraEnv -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.backup.env.store" -}}
{{- with .Values.backup.s3 -}}
- {name: BACKUP_FOLDER, value: /dumps}
- name: BACKUP_TARGET
  value: {{ printf "store:%s/%s" .bucket .prefix }}
# rclone is configured by these variables, not by a file.
- {name: RCLONE_CONFIG, value: ""}
- {name: RCLONE_CONFIG_STORE_TYPE, value: s3}
- name: RCLONE_CONFIG_STORE_PROVIDER
  value: {{ .provider }}
- name: RCLONE_CONFIG_STORE_REGION
  value: {{ .region | quote }}
{{- with .endpoint }}
- name: RCLONE_CONFIG_STORE_ENDPOINT
  value: {{ . }}
{{- end }}
# rclone must not try to create the bucket: the key may lack that permission.
- {name: RCLONE_S3_NO_CHECK_BUCKET, value: "true"}
{{- if .existingSecret.name }}
- name: RCLONE_CONFIG_STORE_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret.name }}, key: {{ .existingSecret.idKey }}}
- name: RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret.name }}, key: {{ .existingSecret.secretKey }}}
{{- else }}
- {name: RCLONE_CONFIG_STORE_ENV_AUTH, value: "true"}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "holdfast.backup.volumes" -}}
volumes:
  - name: scripts
    configMap:
      name: {{ include "holdfast.componentName" . }}
  - {name: tmp, emptyDir: {}}
  - name: dumps
  {{- if .root.Values.backup.s3.bucket }}
    emptyDir: {sizeLimit: {{ .root.Values.backup.s3.scratch }}}
  {{- else }}
    persistentVolumeClaim:
      claimName: {{ .root.Values.backup.volume.existingClaim }}
  {{- end }}
  {{- with include "holdfast.volumes" (dict "root" .root "component" "backup" "database" true) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
