{{/* Labels of an object of the part "name" (dict "root" $ "name" "server"). */}}
{{- define "stoker.labels" -}}
app.kubernetes.io/name: stoker
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/part-of: stoker
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* Labels by which a part's pods are found. */}}
{{- define "stoker.selector" -}}
app.kubernetes.io/name: stoker
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{/* Reference of an image: the one given as it is, else <repository>/<target>:<tag>. */}}
{{- define "stoker.image" -}}
{{- $given := index .root.Values.image.references .target -}}
{{- if $given -}}
{{ $given }}
{{- else -}}
{{- $repository := required "image.repository is required: build and push the images with `make images REGISTRY=registry.example.com/stoker`, then set image.repository to that REGISTRY" .root.Values.image.repository -}}
{{ trimSuffix "/" $repository }}/{{ .target }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "stoker.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What Pod Security level "restricted" asks of a pod. */}}
{{- define "stoker.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stoker.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a part's pods go (dict "part" .Values.server). */}}
{{- define "stoker.placement" -}}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* "true" when the chart brings a store of its own. */}}
{{- define "stoker.ownStore" -}}
{{- if not .Values.storage.url }}true{{ end -}}
{{- end }}

{{- define "stoker.storageSecret" -}}
{{ .Values.storage.existingSecret | default "stoker-storage" }}
{{- end }}

{{/* "true" when there are keys to hand over; without any, the cloud's own identity of the pod is used. */}}
{{- define "stoker.hasKeys" -}}
{{- if or (include "stoker.ownStore" .) .Values.storage.existingSecret .Values.storage.accessKey }}true{{ end -}}
{{- end }}

{{/* "true" when the chart brings a registry of its own. */}}
{{- define "stoker.ownRegistry" -}}
{{- if or (eq .Values.bundledRegistry.mode "Always") (and (eq .Values.bundledRegistry.mode "Auto") (not .Values.registry.url)) }}true{{ end -}}
{{- end }}

{{/* What nodes call it, and where pods of the cluster reach it. */}}
{{- define "stoker.ownRegistryHost" -}}
127.0.0.1:{{ .Values.bundledRegistry.port | int64 }}
{{- end }}

{{- define "stoker.ownRegistryAddress" -}}
stoker-registry.{{ .Release.Namespace }}.svc:5000
{{- end }}

{{/* Where built images go, as nodes reach it: `host/path`; empty when nothing can be built. */}}
{{- define "stoker.registryUrl" -}}
{{- if .Values.registry.url -}}
{{ .Values.registry.url | trimSuffix "/" }}
{{- else if include "stoker.ownRegistry" . -}}
{{ include "stoker.ownRegistryHost" . }}/stoker
{{- end -}}
{{- end }}

{{/* `host=address` of registries that Stoker's own pods reach at another address than nodes do, with commas. */}}
{{- define "stoker.registryAddresses" -}}
{{- $pairs := list -}}
{{- if .Values.registry.inClusterAddress }}{{ $pairs = append $pairs (printf "%s=%s" (first (splitList "/" .Values.registry.url)) .Values.registry.inClusterAddress) }}{{ end -}}
{{- if include "stoker.ownRegistry" . }}{{ $pairs = append $pairs (printf "%s=%s" (include "stoker.ownRegistryHost" .) (include "stoker.ownRegistryAddress" .)) }}{{ end -}}
{{ join "," $pairs }}
{{- end }}

{{/* Registries that speak http, with commas. */}}
{{- define "stoker.insecureRegistries" -}}
{{- $hosts := .Values.insecureRegistries -}}
{{- if and .Values.registry.url .Values.registry.insecure }}{{ $hosts = append $hosts (first (splitList "/" .Values.registry.url)) }}{{ end -}}
{{- if include "stoker.ownRegistry" . }}{{ $hosts = append $hosts (include "stoker.ownRegistryHost" .) }}{{ end -}}
{{ join "," (uniq $hosts) }}
{{- end }}

{{/* Registries that nodes are tried with at the start, with commas. */}}
{{- define "stoker.checkedRegistries" -}}
{{- $urls := list -}}
{{- with include "stoker.registryUrl" . }}{{ $urls = append $urls . }}{{ end -}}
{{- if include "stoker.ownRegistry" . }}{{ $urls = append $urls (printf "%s/stoker" (include "stoker.ownRegistryHost" .)) }}{{ end -}}
{{ join "," (uniq $urls) }}
{{- end }}

{{/* "true" when a part needs the namespace stoker-privileged. */}}
{{- define "stoker.privileged" -}}
{{- if or (include "stoker.ownRegistry" .) (include "stoker.ownBuildkit" .) .Values.scratchScrub.enabled }}true{{ end -}}
{{- end }}

{{/* "true" when the operator runs BuildKit. */}}
{{- define "stoker.ownBuildkit" -}}
{{- if and .Values.buildkit.enabled (not .Values.buildkit.address) }}true{{ end -}}
{{- end }}

{{/* How the operator makes it, as JSON. */}}
{{- define "stoker.buildkit" -}}
{{- $image := .Values.buildkit.image | default (printf "docker.io/moby/buildkit:v0.31.2%s" (eq .Values.buildkit.isolation "Rootless" | ternary "-rootless" "")) -}}
{{- $settings := omit .Values.buildkit "address" | merge (dict "image" $image) -}}
{{ $settings | toJson }}
{{- end }}

{{/* Registries that are only read, as spec.globalRegistries of a Workspace has them. */}}
{{- define "stoker.globalRegistries" -}}
{{- $found := list -}}
{{- range .Values.globalRegistries }}
{{- $one := dict "url" .url "insecure" (.insecure | default false) -}}
{{- with .secretName }}{{ $_ := set $one "secretRef" (dict "name" .) }}{{ end -}}
{{- $found = append $found $one -}}
{{- end -}}
{{ $found | toJson }}
{{- end }}

{{/* Mirrors, as spec.mirrors of a Workspace has them. */}}
{{- define "stoker.mirrors" -}}
{{- $found := dict "conda" .Values.mirrors.conda "images" .Values.mirrors.images -}}
{{- with .Values.mirrors.pypi }}{{ $_ := set $found "pypi" . }}{{ end -}}
{{- with .Values.mirrors.python }}{{ $_ := set $found "python" . }}{{ end -}}
{{- with .Values.mirrors.secretName }}{{ $_ := set $found "secretRef" (dict "name" .) }}{{ end -}}
{{ $found | toJson }}
{{- end }}

{{/* Environment that operator and server share: where they are, where things are stored. */}}
{{- define "stoker.environment" -}}
- name: STOKER_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: STOKER_JOB_NAMESPACES, value: {{ join "," .Values.jobNamespaces | quote }}}
{{- if include "stoker.ownStore" . }}
- {name: STOKER_STORAGE_URL, value: "s3://stoker"}
- {name: STOKER_STORAGE_ENDPOINT, value: "http://stoker-store.{{ .Release.Namespace }}.svc:9000"}
{{- else }}
- {name: STOKER_STORAGE_URL, value: {{ .Values.storage.url | quote }}}
- {name: STOKER_STORAGE_ENDPOINT, value: {{ .Values.storage.endpoint | quote }}}
{{- end }}
- {name: STOKER_STORAGE_CLIENT_ENDPOINT, value: {{ .Values.storage.clientEndpoint | quote }}}
- {name: STOKER_STORAGE_REGION, value: {{ .Values.storage.region | quote }}}
- {name: STOKER_STORAGE_CONDITIONAL_WRITES, value: {{ .Values.storage.conditionalWrites | quote }}}
{{- if include "stoker.hasKeys" . }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ include "stoker.storageSecret" . | quote }}, key: AWS_ACCESS_KEY_ID}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ include "stoker.storageSecret" . | quote }}, key: AWS_SECRET_ACCESS_KEY}}
{{- end }}
{{- end }}

{{/* What cannot be meant, said before anything is installed. */}}
{{- define "stoker.check" -}}
{{- if ne .Release.Namespace "stoker-system" }}
{{- fail (printf "the release namespace is %q: install with `-n stoker-system --create-namespace`, for the command line looks for the server there" .Release.Namespace) }}
{{- end }}
{{- if and .Values.storage.accessKey (not .Values.storage.secretKey) }}
{{- fail "storage.accessKey is set and storage.secretKey is empty: set both, or storage.existingSecret" }}
{{- end }}
{{- if and .Values.storage.existingSecret .Values.storage.accessKey }}
{{- fail "storage.existingSecret and storage.accessKey are both set: keep one of them" }}
{{- end }}
{{- if and .Values.registry.inClusterAddress (not .Values.registry.url) }}
{{- fail "registry.inClusterAddress is set and registry.url is empty: set registry.url to what nodes call that registry, such as registry.example.com/ml" }}
{{- end }}
{{- if and (eq .Values.bundledRegistry.mode "Always") (eq (first (splitList "/" .Values.registry.url)) (include "stoker.ownRegistryHost" .)) }}
{{- fail "registry.url is the address of the bundled registry: leave registry.url empty, or take another bundledRegistry.port" }}
{{- end }}
{{- if and (not .Values.storage.url) (or .Values.storage.endpoint .Values.storage.existingSecret .Values.storage.accessKey .Values.storage.clientEndpoint) }}
{{- fail "storage.url is empty but other storage settings are given: set storage.url, such as s3://bucket/prefix, or remove them to get the store for trying out" }}
{{- end }}
{{- end }}
