{{/* A role and its binding to one component. Takes (list $ component name namespace rules); no namespace: cluster-wide. */}}
{{- define "skill-operator.grant" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $name := index . 2 -}}
{{- $namespace := index . 3 -}}
{{- $kind := ternary "Role" "ClusterRole" (ne $namespace "") -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "skill-operator.labels" (list $root $component) | nindent 4 }}
rules:
  {{- include (index . 4) $root | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "skill-operator.labels" (list $root $component) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "skill-operator.fullname" $root }}-{{ $component }}
    namespace: {{ $root.Release.Namespace }}
{{- end -}}

{{/* What the controller needs where Skills live. No Secrets: it may neither read nor list one. */}}
{{- define "skill-operator.controllerRules" -}}
- apiGroups: [skill-operator.dev]
  resources: [skills]
  verbs: [get, list, watch]
- apiGroups: [skill-operator.dev]
  resources: [skills/status]
  verbs: [patch]
# The cluster's garbage collector removes what a Skill owns, save for what an archived Skill does not need.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, resourcequotas]
  verbs: [get, list, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Pods that hold a Secret which is not granted any more end at once, with what would make them anew.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [delete]
# Only events say why a pod does not start.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
# Whether a Skill's own ServiceAccount may get the Secrets that the Skill names.
- apiGroups: [authorization.k8s.io]
  resources: [localsubjectaccessreviews]
  verbs: [create]
{{- if not .Values.watch.namespaces }}
# The cluster's own networks, which no grant of egress opens.
- apiGroups: [""]
  resources: [nodes]
  verbs: [list]
- apiGroups: [networking.k8s.io]
  resources: [servicecidrs]
  verbs: [list]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  resourceNames: [kubernetes]
  verbs: [get]
{{- end }}
{{- end -}}

{{- define "skill-operator.gatewayRules" -}}
- apiGroups: [skill-operator.dev]
  resources: [skills]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch]
{{- /* What it writes: the number of pods of what sleeps. */}}
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [patch]
{{- if .Values.gateway.workshop.enabled }}
{{- /* And the Skills that agents ask for, within the admission policy for the workshop, where a namespace's labels allow it. */}}
- apiGroups: [skill-operator.dev]
  resources: [skills]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end }}
{{- end -}}

{{/* Reviews are responses, not objects: nothing is stored. They exist for the whole cluster alone. */}}
{{- define "skill-operator.reviewRules" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end -}}

{{/* The Lease, and the ledgers of requests to models and their tokens, where no owner of a Skill can write. */}}
{{- define "skill-operator.ownRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, delete]
{{- if .Values.gateway.tls.selfSigned }}
{{- /* The gateway's own CA and certificate. RBAC cannot name what is about to be created, so the first rule has no name. */}}
{{- $gateway := printf "%s-gateway" (include "skill-operator.fullname" .) }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ $gateway }}-ca-key, {{ include "skill-operator.gatewayCertificate" . }}]
  verbs: [get, update, delete]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [{{ $gateway }}-ca]
  verbs: [update]
{{- end }}
{{- /* The gateways, whose usage reports the controller collects. */}}
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- if .Values.egressProxy.enabled }}
{{- /* The egress proxy runs while a Skill needs it, behind a policy that knows the cluster's networks. */}}
{{- $proxy := printf "%s-egress-proxy" (include "skill-operator.fullname" .) }}
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [{{ $proxy }}]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments/scale]
  resourceNames: [{{ $proxy }}]
  verbs: [patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  resourceNames: [{{ $proxy }}-internet]
  verbs: [get, create, patch]
{{- end }}
{{- end -}}

{{/* A build is a Job and the ConfigMap that holds its context; its pod holds the result. */}}
{{- define "skill-operator.buildRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- /* How strict it is, for the doctor. */}}
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [{{ include "skill-operator.builderNamespace" . }}]
  verbs: [get]
{{- end -}}

{{/* What the sweeper compares the registry with. */}}
{{- define "skill-operator.registryRules" -}}
- apiGroups: [skill-operator.dev]
  resources: [skills]
  verbs: [list]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end -}}

{{/* RBAC cannot name what is about to be created, so the first rule has no name. */}}
{{- define "skill-operator.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ . }}]
  verbs: [get, patch]
{{- end -}}

{{- define "skill-operator.readCredentialRules" -}}
{{- include "skill-operator.secretRules" "registry-read" -}}
{{- end -}}

{{- define "skill-operator.credentialRules" -}}
{{- include "skill-operator.secretRules" (include "skill-operator.pushSecret" .) }}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list]
{{- end -}}
