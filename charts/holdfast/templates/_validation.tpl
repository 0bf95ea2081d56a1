{{- /* Refuses contradictory values, which a schema cannot describe. Each message names the value to change. */ -}}

{{- define "holdfast.validate.servers" -}}
{{- range $context, $title := dict "database" "PostgreSQL" "redis" "Redis" -}}
{{- $values := get $.Values $context -}}
{{- $trial := ternary "trial.postgresql" "trial.redis" (eq $context "database") -}}
{{- $on := ternary $.Values.trial.postgresql.enabled $.Values.trial.redis.enabled (eq $context "database") -}}
{{- $name := $values.existingSecret.name -}}
{{- if and $values.url $name -}}
{{- fail (printf "%s.url and %s.existingSecret.name are both set; set only one of them." $context $context) -}}
{{- end -}}
{{- if and $on (or $values.url $name) -}}
{{- fail (printf "The trial %s is enabled although %s names your own server: set %s.enabled=false." $title (ternary (printf "%s.existingSecret.name" $context) (printf "%s.url" $context) (ne $name "")) $trial) -}}
{{- end -}}
{{- if not (or $on $values.url $name) -}}
{{- fail (printf "No %s: set %s.existingSecret.name or %s.url, or %s.enabled=true for a trial." $title $context $context $trial) -}}
{{- end -}}
{{- if and $values.tls.ca.secret $values.tls.ca.configMap -}}
{{- fail (printf "%s.tls.ca.secret and %s.tls.ca.configMap are both set; set only one of them." $context $context) -}}
{{- end -}}
{{- if and $on (or $values.tls.ca.secret $values.tls.ca.configMap (has ($values.tls.mode | default "") (list "require" "verify-ca" "verify-full"))) -}}
{{- fail (printf "The trial %s does not support TLS: %s.tls is for your own server, with %s.enabled=false." $title $context $trial) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.databaseRead" -}}
{{- $read := .Values.database.read -}}
{{- if and $read.url $read.existingSecret.name -}}
{{- fail "database.read.url and database.read.existingSecret.name are both set; set only one of them." -}}
{{- end -}}
{{- if and .Values.trial.postgresql.enabled (or $read.url $read.existingSecret.name) -}}
{{- fail (printf "The trial PostgreSQL has no standbys: %s is for your own servers, with trial.postgresql.enabled=false." (ternary "database.read.existingSecret.name" "database.read.url" (ne $read.existingSecret.name ""))) -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.redisTls" -}}
{{- with .Values.redis -}}
{{- if and .url (or .tls.ca.secret .tls.ca.configMap) (not (hasPrefix "rediss" .url)) -}}
{{- fail "redis.tls.ca is set although redis.url does not use TLS: it must begin with rediss." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.auth" -}}
{{- with .Values.auth -}}
{{- if and .oidc.issuer (not .oidc.audience) -}}
{{- fail "auth.oidc.audience is empty although auth.oidc.issuer is set: tokens that the issuer created for another service would be accepted." -}}
{{- end -}}
{{- if and .oidc.issuer (not .enabled) -}}
{{- fail "auth.oidc.issuer is set although auth.enabled is false: tokens would not be checked." -}}
{{- end -}}
{{- if and (not .oidc.issuer) (or .oidc.audience .oidc.customerClaim) -}}
{{- fail "auth.oidc.audience and auth.oidc.customerClaim are for auth.oidc.issuer, which is empty." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.settings" -}}
{{- $own := dict
  "DATABASE_URL" "database"
  "DATABASE_READ_URL" "database.read"
  "REDIS_URL" "redis"
  "HOLDFAST_REDIS_CA_FILE" "redis.tls.ca"
  "HOLDFAST_HTTP_ADDR" "api.service"
  "HOLDFAST_METRICS_ADDR" "no value: the port is 9464"
  "HOLDFAST_EXTERNAL_METRICS_ADDR" "no value: the port is 6443"
  "HOLDFAST_ADMIN_ADDR" "no value: the port is 9463 of the pod itself, for kubectl port-forward"
  "HOLDFAST_CONSOLE" "api.console.enabled"
  "HOLDFAST_AUTH" "auth.enabled"
  "HOLDFAST_OPEN_TO_NETWORK" "auth.enabled"
  "HOLDFAST_OIDC_ISSUER" "auth.oidc.issuer"
  "HOLDFAST_OIDC_AUDIENCE" "auth.oidc.audience"
  "HOLDFAST_OIDC_ALGORITHMS" "auth.oidc.algorithms"
  "HOLDFAST_OIDC_CUSTOMER_CLAIM" "auth.oidc.customerClaim"
  "HOLDFAST_RATE_LIMIT" "auth.rateLimit"
  "HOLDFAST_CORS_ORIGINS" "auth.corsOrigins"
  "HOLDFAST_DRAIN_DELAY_MS" "api.shutdown.drainSeconds"
  "HOLDFAST_SHUTDOWN_TIMEOUT_MS" "shutdown.timeoutSeconds of the same component"
  "HOLDFAST_LOG" "telemetry.log"
  "HOLDFAST_LOG_FORMAT" "telemetry.logFormat"
  "HOLDFAST_FULFILMENT" "worker.fulfilment"
  "HOLDFAST_WEBHOOK_URL" "worker.webhook.url"
  "HOLDFAST_WEBHOOK_SECRET" "worker.webhook.existingSecret"
  "HOLDFAST_OPERATOR_NAMESPACE" "no value: it is the release's namespace"
  "HOLDFAST_OPERATOR_POD" "no value: it is the pod's name"
  "HOLDFAST_OPERATOR_SERVICE" "fullnameOverride"
  "HOLDFAST_OPERATOR_TLS_SECRET" "fullnameOverride"
  "HOLDFAST_OPERATOR_TLS_DIR" "operator.tls.existingSecret"
  "HOLDFAST_OPERATOR_LEASE" "fullnameOverride"
  "HOLDFAST_OPERATOR_DEPLOYMENT" "fullnameOverride"
  "HOLDFAST_UPGRADE_CRD" "crds.upgrade"
  "HOLDFAST_QUEUE_RELEASE" "no value: it is the release's name"
  "HOLDFAST_QUEUES_FILE" "operator.queues"
  "HOLDFAST_SALES_API_AUTOSCALER" "autoscaling.api"
  "HOLDFAST_SALES_WORKER_AUTOSCALER" "autoscaling.provider"
-}}
{{- range $component := list "api" "worker" "operator" -}}
{{- range $name, $_ := (get $.Values $component).settings -}}
{{- with get $own $name -}}
{{- fail (printf "%s.settings.%s is set by the chart; instead, change %s." $component $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.autoscaling" -}}
{{- $scaling := .Values.autoscaling -}}
{{- range $component := list "worker" "api" -}}
{{- $limits := get $scaling $component -}}
{{- if gt (int $limits.minReplicas) (int $limits.maxReplicas) -}}
{{- fail (printf "autoscaling.%s.minReplicas is %v, which is more than autoscaling.%s.maxReplicas (%v)." $component $limits.minReplicas $component $limits.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (int $scaling.worker.minReplicas) 0) (ne $scaling.provider "keda") -}}
{{- fail (printf "autoscaling.worker.minReplicas=0 requires autoscaling.provider=keda; with %s it must be 1 or more." $scaling.provider) -}}
{{- end -}}
{{- end -}}

{{- /* A cluster has only one external metrics API. Replacing another one would break the autoscalers that use it. */ -}}
{{- define "holdfast.validate.apiservice" -}}
{{- if include "holdfast.operator.serves" . -}}
{{- $found := lookup "apiregistration.k8s.io/v1" "APIService" "" "v1beta1.external.metrics.k8s.io" -}}
{{- if $found -}}
{{- $service := dig "spec" "service" dict $found -}}
{{- $namespace := dig "namespace" "" $service -}}
{{- $name := dig "name" "" $service -}}
{{- $ours := printf "%s-operator" (include "holdfast.fullname" .) -}}
{{- if not (and (eq $namespace .Release.Namespace) (eq $name $ours)) -}}
{{- $annotations := dig "metadata" "annotations" dict $found -}}
{{- $labels := dig "metadata" "labels" dict $found -}}
{{- $release := get $annotations "meta.helm.sh/release-name" -}}
{{- $owner := printf "service %s/%s" $namespace $name -}}
{{- if $release -}}
{{- $owner = printf "%s (Helm release %s in namespace %s)" $owner $release (get $annotations "meta.helm.sh/release-namespace") -}}
{{- else if get $labels "app.kubernetes.io/part-of" -}}
{{- $owner = printf "%s (%s)" $owner (get $labels "app.kubernetes.io/part-of") -}}
{{- end -}}
{{- $way := "set autoscaling.provider to keda, prometheus-adapter, cpu or none" -}}
{{- if eq (get $labels "app.kubernetes.io/part-of") "holdfast" -}}
{{- $way = "set operator.deploy=false here, and add this queue to operator.queues of that release" -}}
{{- else if contains "keda" (printf "%s %s" $name $release) -}}
{{- $way = "set autoscaling.provider=keda" -}}
{{- else if contains "prometheus-adapter" (printf "%s %s" $name $release) -}}
{{- $way = "set autoscaling.provider=prometheus-adapter" -}}
{{- end -}}
{{- fail (printf "The external metrics API of this cluster (APIService v1beta1.external.metrics.k8s.io) belongs to %s. A cluster can have only one, so autoscaling.provider=operator would break the autoscalers that use it. Instead: %s." $owner $way) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.others" -}}
{{- with .Values.worker -}}
{{- if eq .fulfilment "webhook" -}}
{{- if not .webhook.url -}}
{{- fail "worker.fulfilment=webhook needs worker.webhook.url." -}}
{{- end -}}
{{- if not (or .webhook.secret .webhook.existingSecret.name) -}}
{{- fail "worker.fulfilment=webhook needs worker.webhook.existingSecret.name or worker.webhook.secret, which signs the requests." -}}
{{- end -}}
{{- else if or .webhook.url .webhook.secret .webhook.existingSecret.name -}}
{{- fail (printf "worker.webhook is set, but worker.fulfilment is %s, so orders would be completed without being sent. Set worker.fulfilment=webhook, or remove worker.webhook." .fulfilment) -}}
{{- end -}}
{{- if and .webhook.secret .webhook.existingSecret.name -}}
{{- fail "worker.webhook.secret and worker.webhook.existingSecret.name are both set; set only one of them." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.api.service.nodePort (eq .Values.api.service.type "ClusterIP") -}}
{{- fail "api.service.nodePort needs api.service.type=NodePort or LoadBalancer." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled=true needs ingress.hosts." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled=true needs httpRoute.parentRefs, the Gateways to attach it to." -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics.podMonitor.enabled and metrics.serviceMonitor.enabled are both true, so all metrics would be scraped twice. Set only one of them." -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.backup" -}}
{{- $backup := .Values.backup -}}
{{- if and $backup.restore.enabled (not $backup.enabled) -}}
{{- fail "backup.restore.enabled=true needs backup.enabled=true, and the same backup values as when the dump was made." -}}
{{- end -}}
{{- if and $backup.enabled $backup.s3.bucket $backup.volume.existingClaim -}}
{{- fail "backup.s3.bucket and backup.volume.existingClaim are both set; set only one of them." -}}
{{- end -}}
{{- if and $backup.enabled (not $backup.s3.bucket) (not $backup.volume.existingClaim) -}}
{{- fail "backup.enabled=true needs a place for the dumps: backup.volume.existingClaim or backup.s3.bucket." -}}
{{- end -}}
{{- if and $backup.restore.overwrite (not $backup.restore.file) -}}
{{- fail "backup.restore.overwrite=true needs backup.restore.file, the name of the dump that replaces the contents of the database." -}}
{{- end -}}
{{- $tls := .Values.database.tls -}}
{{- if and $backup.enabled (hasPrefix "verify-" $tls.mode) (not (or $tls.ca.secret $tls.ca.configMap)) -}}
{{- fail (printf "backup.enabled=true with database.tls.mode=%s needs database.tls.ca: pg_dump does not trust public certificate authorities." $tls.mode) -}}
{{- end -}}
{{- end -}}

{{- /* Kinds of other projects, with a clearer error than Helm's. `helm template` without --api-versions does not know which kinds the
       cluster has; it does not have apiregistration.k8s.io either. */ -}}
{{- define "holdfast.validate.kinds" -}}
{{- if .Capabilities.APIVersions.Has "apiregistration.k8s.io/v1" -}}
{{- $wanted := list
  (list (eq .Values.autoscaling.provider "keda") "autoscaling.provider=keda" "keda.sh/v1alpha1" "ScaledObject" "KEDA" "set autoscaling.provider to operator, cpu or none")
  (list .Values.httpRoute.enabled "httpRoute.enabled=true" "gateway.networking.k8s.io/v1" "HTTPRoute" "the Gateway API" "set httpRoute.enabled=false")
  (list .Values.metrics.podMonitor.enabled "metrics.podMonitor.enabled=true" "monitoring.coreos.com/v1" "PodMonitor" "the Prometheus operator" "set metrics.podMonitor.enabled=false, or use metrics.podAnnotations")
  (list .Values.metrics.serviceMonitor.enabled "metrics.serviceMonitor.enabled=true" "monitoring.coreos.com/v1" "ServiceMonitor" "the Prometheus operator" "set metrics.serviceMonitor.enabled=false, or use metrics.podAnnotations")
  (list .Values.metrics.prometheusRule.enabled "metrics.prometheusRule.enabled=true" "monitoring.coreos.com/v1" "PrometheusRule" "the Prometheus operator" "set metrics.prometheusRule.enabled=false")
-}}
{{- range $wanted -}}
{{- $kind := printf "%s/%s" (index . 2) (index . 3) -}}
{{- if and (index . 0) (not ($.Capabilities.APIVersions.Has $kind)) -}}
{{- fail (printf "%s needs the kind %s, which this cluster does not have: install %s first, or %s." (index . 1) $kind (index . 4) (index . 5)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate" -}}
{{- include "holdfast.validate.servers" . -}}
{{- include "holdfast.validate.databaseRead" . -}}
{{- include "holdfast.validate.redisTls" . -}}
{{- include "holdfast.validate.auth" . -}}
{{- include "holdfast.validate.settings" . -}}
{{- include "holdfast.validate.autoscaling" . -}}
{{- include "holdfast.validate.apiservice" . -}}
{{- include "holdfast.validate.others" . -}}
{{- include "holdfast.validate.backup" . -}}
{{- include "holdfast.validate.kinds" . -}}
{{- end -}}
