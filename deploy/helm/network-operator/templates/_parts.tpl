{{/* What several templates share. */}}
{{- define "image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* How a DaemonSet replaces its agents. */}}
{{- define "updateStrategy" -}}
{type: {{ .Values.agent.updateStrategy }}{{ if eq .Values.agent.updateStrategy "RollingUpdate" }}, rollingUpdate: {maxUnavailable: {{ .Values.agent.maxUnavailable }}}{{ end }}}
{{- end }}

{{/* An agent of the DaemonSet that is named, in a pod's metadata. */}}
{{- define "podMetadata" -}}
labels:
  app.kubernetes.io/name: network-operator
  app.kubernetes.io/component: {{ .component }}
  {{- with .Values.agent.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- if not (hasKey (.Values.agent.podAnnotations | default dict) "container.apparmor.security.beta.kubernetes.io/agent") }}
  # The default profile of container runtimes forbids to write below /sys/fs/bpf. Kubernetes 1.30 and later make a field of it.
  container.apparmor.security.beta.kubernetes.io/agent: unconfined
  {{- end }}
  {{- with .Values.agent.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The head of an agent's pod, for an account. */}}
{{- define "podHead" -}}
serviceAccountName: {{ .account }}
priorityClassName: {{ .Values.agent.priorityClassName }}
# It makes the node's links, and talks to the API server before there is a pod network.
hostNetwork: true
# The node's resolver: the cluster's is behind the network that is to be made.
dnsPolicy: Default
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.agent.terminationGracePeriodSeconds }}
tolerations:
{{- toYaml .Values.agent.tolerations | nindent 0 }}
{{- with .Values.agent.nodeSelector }}
nodeSelector:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
# systemd on the D-Bus asks for root; what root may do here is in the capabilities below.
securityContext: {runAsUser: 0, runAsGroup: 0, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{/* How an agent's container begins. */}}
{{- define "containerHead" -}}
image: {{ include "image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [network-operator]
args:
- run
{{- end }}

{{/* Flags of agents of either kind. */}}
{{- define "flags" -}}
- --debounce={{ .Values.agent.debounce }}
- --check-interval={{ .Values.agent.checkInterval }}
- --repairs-per-minute={{ .Values.agent.repairsPerMinute }}
- --listen={{ .Values.agent.listen.address }}:{{ .Values.agent.listen.port }}
- --log-format={{ .Values.agent.log.format }}
{{- end }}

{{/* The last flags, environment, port, probes and resources of agents of either kind. */}}
{{- define "containerRest" -}}
{{ with .Values.agent.extraArgs }}{{ toYaml . }}
{{ end -}}
env:
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- /* glibc gives memory back to the node that a run has taken (mallopt(3): a fixed threshold does not grow). */}}
- {name: MALLOC_ARENA_MAX, value: "1"}
- {name: MALLOC_TRIM_THRESHOLD_, value: "131072"}
{{- if contains "$(HOST_IP)" .Values.agent.listen.address }}
- {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
{{- end }}
{{- with .Values.apiServer }}
{{- if .host }}
- {name: KUBERNETES_SERVICE_HOST, value: {{ quote .host }}}
- {name: KUBERNETES_SERVICE_PORT, value: {{ quote .port }}}
{{- end }}
{{- end }}
{{- with .Values.agent.log.level }}
- {name: RUST_LOG, value: {{ quote . }}}
{{- end }}
{{- with .Values.agent.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
ports: [{name: metrics, containerPort: {{ .Values.agent.listen.port }}}]
# The kubelet asks from the node itself. That the node is not ready yet is no reason to start the agent again: /healthz.
{{- /* Without a host it asks the node's address, where an agent listens that has that one or all. */}}
{{- $address := .Values.agent.listen.address | trimAll "[]" }}
{{- $host := or (contains "$" $address) (regexMatch "^[0.:]+$" $address) | ternary "" (printf "host: %q, " $address) }}
livenessProbe:
  httpGet: { {{- $host }}path: /healthz, port: metrics}
  initialDelaySeconds: 10
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { {{- $host }}path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
resources:
{{- toYaml .Values.agent.resources | nindent 2 }}
{{- end }}
