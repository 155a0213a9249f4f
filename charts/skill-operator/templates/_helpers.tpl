{{- define "skill-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* A namespace of its own: all in it is cut off, and who may make pods in it can read the push credential. */}}
{{- define "skill-operator.builderNamespace" -}}
{{- $namespace := .Values.builder.namespace | default (printf "%s-builds" .Release.Namespace) -}}
{{- if or (eq $namespace .Release.Namespace) (has $namespace .Values.watch.namespaces) -}}
{{- fail (printf "builder.namespace: %q is in use; builds need a namespace of their own" $namespace) -}}
{{- end -}}
{{- $namespace -}}
{{- end -}}

{{/* A namespace of its own: a port of the node needs Pod Security "privileged", and it holds the read credential. */}}
{{- define "skill-operator.mirrorNamespace" -}}
{{- $namespace := .Values.registry.mirror.namespace | default (printf "%s-nodes" .Release.Namespace) -}}
{{- if has $namespace (concat .Values.watch.namespaces (list .Release.Namespace (include "skill-operator.builderNamespace" .))) -}}
{{- fail (printf "registry.mirror.namespace: %q is in use; the registry's mirrors need a namespace of their own" $namespace) -}}
{{- end -}}
{{- $namespace -}}
{{- end -}}

{{/* Namespaces of the operator itself, where no Skill may be. */}}
{{- define "skill-operator.ownNamespaces" -}}
{{- $own := list .Release.Namespace (include "skill-operator.builderNamespace" .) -}}
{{- if .Values.registry.embedded }}{{ $own = append $own (include "skill-operator.mirrorNamespace" .) }}{{ end -}}
{{- toJson $own -}}
{{- end -}}

{{/* What selects the pods of one component. Takes (list $ component). */}}
{{- define "skill-operator.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object of one component. Takes (list $ component). */}}
{{- define "skill-operator.labels" -}}
{{- $root := index . 0 -}}
{{ include "skill-operator.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end -}}

{{/* Labels of a component's pods: the user's first, so that ours win. Takes (list $ component values). */}}
{{- define "skill-operator.podLabels" -}}
{{- $root := index . 0 -}}
{{- $ours := include "skill-operator.labels" (list $root (index . 1)) | fromYaml -}}
{{- mergeOverwrite (deepCopy (index . 2).podLabels) $ours | toYaml -}}
{{- end -}}

{{/* Where the scheduler may put a component. Takes its values. */}}
{{- define "skill-operator.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "skill-operator.image" -}}
{{- include "skill-operator.imageOf" (list . .Values.image) -}}
{{- end -}}

{{/* Takes (list $ values of an image). */}}
{{- define "skill-operator.imageOf" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository (.tag | default $root.Chart.AppVersion) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The networks that no grant opens, and the private ones: skill_operator.api.egress_networks. */}}
{{- define "skill-operator.neverGranted" -}}
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16 198.18.0.0/15 224.0.0.0/3 ::/127 64:ff9b::/96 64:ff9b:1::/48 2002::/16 fc00::/7 fe80::/9 ff00::/8
{{- end -}}

{{- define "skill-operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "skill-operator.securityContext" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Probes of either process: its own server, apart from the one that takes calls. */}}
{{- define "skill-operator.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{/* Names of the gateway that nobody outside the cluster can take, and the user's. */}}
{{- define "skill-operator.gatewayHosts" -}}
{{- $name := printf "%s-gateway" (include "skill-operator.fullname" .) -}}
{{- $full := printf "%s.%s" $name .Release.Namespace -}}
{{- concat (list $name $full (printf "%s.svc" $full) (printf "%s.svc.cluster.local" $full)) .Values.gateway.hosts .Values.gateway.tls.extraNames | uniq | toJson -}}
{{- end -}}

{{/* The Secret with the gateway's certificate: the user's, or what the controller makes (skill_operator.naming). Empty:
     plain HTTP. */}}
{{- define "skill-operator.gatewayCertificate" -}}
{{- $tls := .Values.gateway.tls -}}
{{- if and $tls.selfSigned $tls.secretName -}}
{{- fail "gateway.tls: set secretName or selfSigned, not both" -}}
{{- else if and $tls.extraNames (not $tls.selfSigned) -}}
{{- fail "gateway.tls.extraNames are for selfSigned: a certificate of your own has its names already" -}}
{{- else if $tls.selfSigned -}}
{{- printf "%s-gateway-certificate" (include "skill-operator.fullname" .) -}}
{{- else -}}
{{- $tls.secretName -}}
{{- end -}}
{{- end -}}

{{- define "skill-operator.registryHost" -}}
{{- printf "%s-registry.%s.svc" (include "skill-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* The Secret that the embedded registry makes for the builder, or the one the user made. */}}
{{- define "skill-operator.pushSecret" -}}
{{- if .Values.registry.embedded -}}registry-push{{- else -}}{{ .Values.registry.pushSecret }}{{- end -}}
{{- end -}}

{{/* The port of a registry elsewhere. */}}
{{- define "skill-operator.pushPort" -}}
{{- $host := (splitList "/" .Values.registry.push) | first -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{- regexFind "[0-9]+$" $host -}}
{{- else -}}
{{- ternary "80" "443" .Values.registry.insecure -}}
{{- end -}}
{{- end -}}

{{- define "skill-operator.registrySettings" -}}
{{- $r := .Values.registry -}}
{{- if $r.embedded -}}
{{- $host := include "skill-operator.registryHost" . -}}
{{- dict
  "push" ($r.push | default (printf "%s:5000" $host))
  "pull" ($r.pull | default (printf "localhost:%d" (int $r.nodePort)))
  "read" ($r.read | default (printf "http://%s-registry-mirror.%s.svc:5002" (include "skill-operator.fullname" .) (include "skill-operator.mirrorNamespace" .)))
  "mirrorNamespace" (include "skill-operator.mirrorNamespace" .)
  "credentials" ""
  "trustedHosts" $r.trustedHosts
  "insecure" true
  "flatNames" false
  "pushSecret" (include "skill-operator.pushSecret" .)
  "pullSecret" $r.pullSecret
  "sweepSeconds" $r.sweep.everySeconds
  "sweepGraceSeconds" $r.sweep.graceSeconds | toJson -}}
{{- else -}}
{{- dict
  "push" (required "registry.push: where does the builder push to? (registry.embedded is false)" $r.push)
  "pull" (required "registry.pull: where do the nodes pull from? (registry.embedded is false)" $r.pull)
  "mirrorNamespace" ""
  "read" (required "registry.read: which URL serves the registry's manifests? (registry.embedded is false)" $r.read)
  "credentials" (ternary "/etc/skill-operator/registry/config.json" "" (ne $r.readSecret ""))
  "trustedHosts" $r.trustedHosts
  "insecure" $r.insecure
  "flatNames" $r.flatNames
  "pushSecret" (include "skill-operator.pushSecret" .)
  "pullSecret" $r.pullSecret
  "sweepSeconds" $r.sweep.everySeconds
  "sweepGraceSeconds" $r.sweep.graceSeconds | toJson -}}
{{- end -}}
{{- end -}}

{{- define "skill-operator.modelSettings" -}}
{{- $models := list -}}
{{- $names := list -}}
{{- range .Values.models -}}
{{- if has .name $names -}}
{{- fail (printf "models: two of them are named %q" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- if and .caSecret .caConfigMap -}}
{{- fail (printf "models: %q names both caSecret and caConfigMap; one of them holds its CA" .name) -}}
{{- end -}}
{{- if regexMatch "/(chat/completions|completions|responses|messages)/?([?].*)?$" .baseURL -}}
{{- fail (printf "models: baseURL of %q goes up to and including /v1; the operator appends /chat/completions itself" .name) -}}
{{- end -}}
{{- $model := omit . "apiKeySecret" "caSecret" "caConfigMap" -}}
{{- with .apiKeySecret -}}
{{- $_ := set $model "apiKeyFile" (printf "/etc/skill-operator/models/%s/%s" $model.name .key) -}}
{{- end -}}
{{- with .caSecret | default .caConfigMap -}}
{{- $_ := set $model "caFile" (printf "/etc/skill-operator/model-cas/%s/%s" $model.name .key) -}}
{{- end -}}
{{- $models = append $models $model -}}
{{- end -}}
{{- range .Values.generation.escalation -}}
{{- if not (has . $names) -}}
{{- fail (printf "generation.escalation: no model is named %q" .) -}}
{{- end -}}
{{- end -}}
{{- $models | toJson -}}
{{- end -}}

{{/* settings.json of both processes: skill_operator.settings.Settings. */}}
{{- define "skill-operator.settings" -}}
{{- $fullname := include "skill-operator.fullname" . -}}
{{- $tls := ne (include "skill-operator.gatewayCertificate" .) "" -}}
{{- dict
  "namespace" .Release.Namespace
  "builderNamespace" (include "skill-operator.builderNamespace" .)
  "watchNamespaces" .Values.watch.namespaces
  "registry" (include "skill-operator.registrySettings" . | fromJson)
  "images" (dict
    "runtime" (required "images.runtime: the reference by digest of the image that skills run on" .Values.images.runtime)
    "checker" (required "images.checker: the reference by digest of the image that skills are checked in" .Values.images.checker)
    "builder" .Values.images.builder
    "operator" (include "skill-operator.image" .))
  "models" (include "skill-operator.modelSettings" . | fromJsonArray)
  "gatewayURL" (.Values.gateway.url | default (printf "%s://%s-gateway.%s.svc" (ternary "https" "http" $tls) $fullname .Release.Namespace))
  "gatewayLabels" (include "skill-operator.selector" (list . "gateway") | fromYaml)
  "gateway" (dict
    "auth" .Values.gateway.auth
    "audiences" .Values.gateway.audiences
    "hosts" (include "skill-operator.gatewayHosts" . | fromJsonArray)
    "origins" .Values.gateway.origins
    "limits" .Values.gateway.limits
    "connections" .Values.gateway.connections
    "wake" .Values.gateway.wake
    "finishSeconds" .Values.gateway.finishSeconds
    "mcp" .Values.gateway.mcp
    "oauth" .Values.gateway.oauth
    "ui" .Values.gateway.ui
    "workshop" .Values.gateway.workshop
    "tlsFolder" (ternary "/etc/skill-operator-tls" "" $tls)
    "selfSigned" (dict
      "enabled" .Values.gateway.tls.selfSigned
      "service" (printf "%s-gateway" $fullname)
      "extraNames" .Values.gateway.tls.extraNames))
  "egressProxy" (dict
    "address" (ternary (printf "%s-egress-proxy.%s.svc:3128" $fullname .Release.Namespace) "" .Values.egressProxy.enabled)
    "deployment" (printf "%s-egress-proxy" $fullname)
    "labels" (include "skill-operator.selector" (list . "egress-proxy") | fromYaml)
    "port" 3128
    "replicas" .Values.egressProxy.replicas)
  "registryLabels" (ternary (include "skill-operator.selector" (list . "registry") | fromYaml) dict .Values.registry.embedded)
  "registryCIDRs" (ternary list .Values.registry.cidrs .Values.registry.embedded)
  "priorityClassName" .Values.priorityClass.name
  "generation" .Values.generation
  "check" .Values.check
  "build" .Values.build
  "isolation" (merge (dict
    "beacon" (printf "%s-beacon.%s.svc:8082" $fullname .Release.Namespace)
    "prober" (ternary (printf "%s-prober.%s.svc:8080" $fullname .Release.Namespace) "" .Values.isolation.required)) .Values.isolation)
  "workers" .Values.controller.workers
  "resyncSeconds" .Values.controller.resyncSeconds
  "leaseSeconds" .Values.controller.leaseSeconds
  "listenPort" 8080
  "beaconPort" 8082
  "judgePort" 8083
  "usagePort" 8084
  "healthPort" 8081
  "logLevel" .Values.logLevel | toPrettyJson -}}
{{- end -}}

{{/* Who may read /metrics. An empty list of peers would mean everybody, so then there is no rule at all. */}}
{{- define "skill-operator.metricsRule" -}}
{{- with .Values.metrics.networkPolicy.from -}}
- from: {{- toYaml . | nindent 4 }}
  ports: [{protocol: TCP, port: 8081}]
{{- end -}}
{{- end -}}

{{/* Labels that the controller gives to the pods of a build. */}}
{{- define "skill-operator.buildPods" -}}
app.kubernetes.io/managed-by: skill-operator
app.kubernetes.io/component: build
{{- end -}}

{{/* Two views of one storage. No blob descriptor cache in either: one would not see what the other did. */}}
{{- define "skill-operator.registryConfig" -}}
writer.yml: |
  version: 0.1
  log: {level: info, accesslog: {disabled: true}}
  storage:
    filesystem: {rootdirectory: /var/lib/registry}
  auth:
    htpasswd: {realm: skill-operator, path: /auth/writers}
  http:
    addr: :5000
    headers: {X-Content-Type-Options: [nosniff]}
reader.yml: |
  version: 0.1
  log: {level: info, accesslog: {disabled: true}}
  auth:
    htpasswd: {realm: skill-operator, path: /auth/readers}
  storage:
    filesystem: {rootdirectory: /var/lib/registry}
    maintenance:
      readonly: {enabled: true}
      uploadpurging: {enabled: false}
  http:
    addr: :5001
    headers: {X-Content-Type-Options: [nosniff]}
{{- end -}}

{{/* CEL: the images of a pod: those of its containers, and those that it mounts. */}}
{{- define "skill-operator.imagesOf" -}}
{{ . }}.spec.containers.map(c, c.image) + {{ . }}.spec.?initContainers.orValue([]).map(c, c.image) + {{ . }}.spec.?ephemeralContainers.orValue([]).map(c, c.image) + {{ . }}.spec.?volumes.orValue([]).map(v, v.?image.?reference.orValue(''))
{{- end -}}

{{/* CEL: the list of the operator's annotations of these names. */}}
{{- define "skill-operator.annotations" -}}
{{- $names := list }}{{ range . }}{{ $names = append $names (print "skill-operator.dev/" .) }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{/* CEL: whether one of these objects, or the pods that it makes, bears labels of the operator's own. */}}
{{- define "skill-operator.isOurs" -}}
{{ . }}.exists(o, o != null && [o.?metadata, o.?spec.?template.?metadata, o.?spec.?jobTemplate.?metadata, o.?spec.?jobTemplate.?spec.?template.?metadata].exists(m, m.?labels.orValue({}).exists(k, k.startsWith('skill-operator.dev/') || (k == 'app.kubernetes.io/managed-by' && m.?labels.orValue({})[k] == 'skill-operator'))))
{{- end -}}

{{/* Where a policy holds: in these namespaces, else where Skills live, but not in the release's own. Takes (list $ name)
     or (list $ name namespaces). */}}
{{- define "skill-operator.admissionBinding" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "skill-operator.fullname" $root) (index . 1) -}}
{{- $where := dict "key" "kubernetes.io/metadata.name" "operator" "NotIn" "values" (list $root.Release.Namespace) -}}
{{- if gt (len .) 2 -}}
{{- $where = merge (dict "operator" "In" "values" (index . 2)) $where -}}
{{- else if $root.Values.watch.namespaces -}}
{{- $where = merge (dict "operator" "In" "values" (append $root.Values.watch.namespaces (include "skill-operator.builderNamespace" $root))) $where -}}
{{- end -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels: {{- include "skill-operator.labels" (list $root "admission") | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
  matchResources:
    namespaceSelector:
      matchExpressions: [{{ toJson $where }}]
{{- end -}}
