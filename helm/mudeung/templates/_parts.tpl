{{/* What several templates share. */}}

{{- define "mudeung.labels" -}}
app.kubernetes.io/name: mudeung
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "mudeung.selector" -}}
app.kubernetes.io/name: mudeung
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "mudeung.image" -}}
{{ .name }}:{{ .tag | default .default }}
{{- end }}

{{- define "mudeung.platformImage" -}}
{{ include "mudeung.image" (dict "name" .Values.image.name "tag" .Values.image.tag "default" .Chart.AppVersion) }}
{{- end }}

{{/* Names that all of a cluster shares. */}}
{{- define "mudeung.clusterName" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{- define "mudeung.clusterQueue" -}}
{{ .Values.kueue.clusterQueue | default (include "mudeung.clusterName" .) }}
{{- end }}

{{- define "mudeung.prefix" -}}
{{ .Values.settings.kubernetes_namespace_prefix | default "mudeung-" }}
{{- end }}

{{- define "mudeung.secretsName" -}}
{{ .Values.secrets.existingSecret | default "platform-secrets" }}
{{- end }}

{{- define "mudeung.databaseSecret" -}}
{{ ternary "postgresql" .Values.database.existingSecret .Values.postgresql.enabled }}
{{- end }}

{{/* Not empty where people log in at an identity provider. */}}
{{- define "mudeung.oidc" -}}
{{ if eq (.Values.settings.login | default "password") "oidc" }}true{{ end }}
{{- end }}

{{- define "mudeung.homeClaim" -}}
{{ .Values.home.storage.existingClaim | default "home" }}
{{- end }}

{{- define "mudeung.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 100
fsGroup: 100
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "mudeung.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What says which values cannot go together, and what is missing, before anything is made. */}}
{{- define "mudeung.check" -}}
{{- if and .Values.postgresql.enabled .Values.database.existingSecret }}
{{- fail "postgresql.enabled and database.existingSecret: one of the two, not both" }}
{{- end }}
{{- if not (or .Values.postgresql.enabled .Values.database.existingSecret) }}
{{- fail "database.existingSecret names the secret with database_url and hub_database_url; postgresql.enabled=true is for evaluation" }}
{{- end }}
{{- if .Values.evaluation.enabled }}
{{- if or .Values.ingress.enabled (ne .Values.proxy.service.type "ClusterIP") }}
{{- fail "evaluation.enabled: its accounts are for a forwarded port only; without ingress.enabled, and proxy.service.type=ClusterIP" }}
{{- end }}
{{- end }}
{{- if include "mudeung.oidc" . }}
{{- if .Values.evaluation.enabled }}
{{- fail "settings.login=oidc and evaluation.enabled: its accounts have passwords; one of the two, not both" }}
{{- end }}
{{- if not (and .Values.settings.oidc_issuer .Values.settings.oidc_client_id) }}
{{- fail "settings.login=oidc needs settings.oidc_issuer and settings.oidc_client_id" }}
{{- end }}
{{- if not (or .Values.oidc.existingSecret .Values.secrets.existingSecret) }}
{{- fail "oidc.existingSecret names the secret with oidc_client_secret, which the identity provider has given" }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.hosts needs at least one host name" }}
{{- end }}
{{- if and .Values.agent.enabled (not .Values.agent.existingSecret) }}
{{- fail "agent.existingSecret names the secret with one token for each machine" }}
{{- end }}
{{- include "mudeung.checkKueue" .Values.kueue }}
{{- end }}

{{/* A cluster queue that lacks a resource holds every run back that asks for it: all of them ask for these three. */}}
{{- define "mudeung.checkKueue" -}}
{{- if .enabled }}
{{- if not .localQueue }}
{{- fail "kueue.localQueue is the name of the queue in each project's namespace" }}
{{- end }}
{{- if .create }}
{{- $covered := list }}
{{- range .resourceGroups }}{{ $covered = concat $covered .coveredResources }}{{ end }}
{{- range list "cpu" "memory" "ephemeral-storage" }}
{{- if not (has . $covered) }}
{{- fail (printf "kueue.resourceGroups has to cover %s: no batch run begins without; or kueue.create=false" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "mudeung.settingsToml" -}}
# Made by the chart.
backend = "kubernetes"
evaluation = {{ .Values.evaluation.enabled }}
kubernetes_namespace = {{ .Release.Namespace | toJson }}
{{- if .Values.home.storage.enabled }}
kubernetes_files_claim = {{ include "mudeung.homeClaim" . | toJson }}
{{- end }}
kubernetes_priority_classes = {{ .Values.scheduling.podPriority.enabled }}
{{- with .Values.singleuser.networkPolicy }}
{{- if not .egressAllowRules.nonPrivateIPs }}
kubernetes_internet = false
{{- end }}
{{- with .reachableCidrs }}
kubernetes_reachable_cidrs = {{ toJson . }}
{{- end }}
{{- with .unreachableCidrs }}
kubernetes_unreachable_cidrs = {{ toJson . }}
{{- end }}
{{- end }}
{{- if .Values.kueue.enabled }}
kubernetes_queue = {{ .Values.kueue.localQueue | toJson }}
kubernetes_cluster_queue = {{ include "mudeung.clusterQueue" . | toJson }}
{{- end }}
{{- if and .Values.ingress.enabled .Values.ingress.tls (not (hasKey .Values.settings "public_url")) }}
public_url = {{ printf "https://%s" (first .Values.ingress.hosts) | toJson }}
{{- end }}
{{- if and (include "mudeung.oidc" .) .Values.oidc.caConfigMap }}
oidc_ca = "/etc/mudeung/secrets/oidc_ca.crt"
{{- end }}
{{- range $name, $value := .Values.settings }}
{{ $name }} = {{ if kindIs "float64" $value }}{{ int64 $value }}{{ else }}{{ toJson $value }}{{ end }}
{{- end }}
{{- end }}

{{/* The environment of every Python program. */}}
{{- define "mudeung.environment" -}}
- {name: MUDEUNG_HOME, value: /var/lib/mudeung}
- {name: MUDEUNG_SETTINGS, value: /etc/mudeung/settings/mudeung.toml}
- {name: MUDEUNG_SECRETS, value: /etc/mudeung/secrets}
- {name: HOME, value: /tmp}
{{- end }}

{{/* The volumes of a Python program: of the secrets, those that it needs and no others. */}}
{{- define "mudeung.volumes" -}}
- name: tmp
  emptyDir: {}
- name: settings
  configMap: {name: platform-settings}
- name: home
  {{- if and .home .root.Values.home.storage.enabled }}
  persistentVolumeClaim: {claimName: {{ include "mudeung.homeClaim" .root }}}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- if .secrets }}
      - secret:
          name: {{ include "mudeung.secretsName" .root }}
          items:
            {{- range .secrets }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      {{- end }}
      {{- if and .logins (include "mudeung.oidc" .root) }}
      - secret:
          name: {{ .root.Values.oidc.existingSecret | default (include "mudeung.secretsName" .root) }}
          items:
            - {key: oidc_client_secret, path: oidc_client_secret}
      {{- with .root.Values.oidc.caConfigMap }}
      - configMap:
          name: {{ . }}
          items:
            - {key: ca.crt, path: oidc_ca.crt}
      {{- end }}
      {{- end }}
      - secret:
          name: {{ include "mudeung.databaseSecret" .root }}
          items:
            {{- range .databases }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
{{- end }}

{{- define "mudeung.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: settings, mountPath: /etc/mudeung/settings, readOnly: true}
- {name: home, mountPath: /var/lib/mudeung}
- {name: secrets, mountPath: /etc/mudeung/secrets, readOnly: true}
{{- end }}

{{/* The metadata and the placement of a pod of the platform's own. */}}
{{- define "mudeung.podMetadata" -}}
labels:
  {{- include "mudeung.selector" . | nindent 2 }}
  {{- with .values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/settings: {{ include "mudeung.settingsToml" .root | sha256sum }}
  {{- with .values.annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "mudeung.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.corePods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with merge (dict) .values.nodeSelector .root.Values.scheduling.corePods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .values.tolerations .root.Values.scheduling.corePods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "mudeung.extraEnv" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  {{- toYaml $value | nindent 2 }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
A program of the platform: a Deployment of one pod, which is gone before the next one comes. `values` is its block of
values, `account` whether it asks the API server, `home` whether it has the home folder's volume; `before` are init
containers, `probes` the container's probes. While the platform is maintained none of them runs.
*/}}
{{- define "mudeung.program" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mudeung.labels" . | nindent 4 }}
spec:
  replicas: {{ ternary 0 1 (and .root.Values.maintenance.enabled (ne .component "maintenance")) }}
  revisionHistoryLimit: 3
  # Two of one program at a time would each take the other's work. Servers go on meanwhile.
  strategy: {type: Recreate}
  selector:
    matchLabels:
      {{- include "mudeung.selector" . | nindent 6 }}
  template:
    metadata:
      {{- include "mudeung.podMetadata" . | nindent 6 }}
    spec:
      serviceAccountName: {{ ternary .component "platform" .account }}
      automountServiceAccountToken: {{ .account }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      securityContext:
        {{- include "mudeung.podSecurity" . | nindent 8 }}
      {{- include "mudeung.placement" . | nindent 6 }}
      {{- with .before }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "mudeung.platformImage" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: {{ toJson .command }}
          env:
            {{- include "mudeung.environment" . | nindent 12 }}
            {{- if .beat }}
            - {name: MUDEUNG_BEAT, value: /tmp/beat}
            {{- end }}
            {{- with include "mudeung.extraEnv" .values.extraEnv }}
            {{- . | nindent 12 }}
            {{- end }}
          {{- with .port }}
          ports:
            - {name: http, containerPort: {{ . }}}
          {{- end }}
          {{- if .beat }}
          # It touches the file at the end of each round; a loop that hangs is started anew.
          startupProbe:
            exec: {command: [test, -e, /tmp/beat]}
            periodSeconds: 2
            failureThreshold: 150
          livenessProbe:
            exec: {command: [sh, -c, 'test -n "$(find /tmp/beat -mmin -{{ .beat }})"']}
            periodSeconds: 60
            timeoutSeconds: 10
            failureThreshold: 3
          {{- end }}
          {{- with .health }}
          startupProbe:
            httpGet: {path: {{ . }}, port: http}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 150
          readinessProbe:
            httpGet: {path: {{ . }}, port: http}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 6
          livenessProbe:
            httpGet: {path: {{ . }}, port: http}
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 12
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "mudeung.containerSecurity" . | nindent 12 }}
          volumeMounts:
            {{- include "mudeung.mounts" . | nindent 12 }}
      volumes:
        {{- include "mudeung.volumes" . | nindent 8 }}
{{- end }}
