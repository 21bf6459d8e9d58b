{{/* The labels by which Services and the Deployment find Pods. They never change: a Deployment's selector cannot. */}}
{{- define "kthena.selector" -}}
app.kubernetes.io/name: kthena-router
app.kubernetes.io/component: router
{{- end }}

{{/* Labels that every object has; its component comes beside them. */}}
{{- define "kthena.commonLabels" -}}
app.kubernetes.io/name: kthena-router
app.kubernetes.io/part-of: kthena
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of the router's own objects. */}}
{{- define "kthena.labels" -}}
app.kubernetes.io/component: router
{{ include "kthena.commonLabels" . }}
{{- end }}

{{/* Labels of the objects by which Prometheus finds the router. */}}
{{- define "kthena.metricsLabels" -}}
app.kubernetes.io/component: metrics
{{ include "kthena.commonLabels" . }}
{{- end }}

{{/* The namespaces that are watched, as a JSON list; empty for all. The default Gateway is in the release's own. */}}
{{- define "kthena.watchedNamespaces" -}}
{{- $router := .Values.networking.kthenaRouter -}}
{{- $namespaces := $router.watchNamespaces -}}
{{- if and $namespaces $router.gatewayAPI.enabled -}}
{{- $namespaces = append $namespaces .Release.Namespace -}}
{{- end -}}
{{- $namespaces | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* The namespaces in which the router has rights, as a JSON list; empty for all. They outlast the flag of the Gateway API. */}}
{{- define "kthena.grantedNamespaces" -}}
{{- $router := .Values.networking.kthenaRouter -}}
{{- $namespaces := $router.watchNamespaces -}}
{{- if and $namespaces (or $router.gatewayAPI.enabled $router.gatewayAPI.rights) -}}
{{- $namespaces = append $namespaces .Release.Namespace -}}
{{- end -}}
{{- $namespaces | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* The scheduler's configuration as the router reads it. */}}
{{- define "kthena.routerConfiguration" -}}
{{- dict "scheduler" .Values.networking.kthenaRouter.scheduler | toYaml -}}
{{- end }}

{{/* What a schema cannot say: values that contradict each other. */}}
{{- define "kthena.validate" -}}
{{- $router := .Values.networking.kthenaRouter -}}
{{- $ports := list (int $router.port) (int $router.metricsPort) (int $router.debugPort) -}}
{{- if ne (len ($ports | uniq)) 3 -}}
{{- fail "networking.kthenaRouter: port, metricsPort and debugPort must differ from each other" -}}
{{- end -}}
{{- if and $router.gatewayAPI.inferenceExtension (not $router.gatewayAPI.enabled) -}}
{{- fail "networking.kthenaRouter.gatewayAPI.inferenceExtension needs networking.kthenaRouter.gatewayAPI.enabled=true" -}}
{{- end -}}
{{- if ne (eq $router.gatewayAPI.addressProvider "pool") (not (empty $router.gatewayAPI.addresses)) -}}
{{- fail "networking.kthenaRouter.gatewayAPI: addressProvider=pool and addresses need each other" -}}
{{- end -}}
{{- if and $router.tls.enabled (not $router.tls.secretName) -}}
{{- fail "networking.kthenaRouter.tls.enabled needs networking.kthenaRouter.tls.secretName" -}}
{{- end -}}
{{- end }}

{{/* The subject of every binding. */}}
{{- define "kthena.subject" -}}
- kind: ServiceAccount
  name: kthena-router
  namespace: {{ .Release.Namespace }}
{{- end }}
