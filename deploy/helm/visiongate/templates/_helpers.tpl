{{- define "visiongate.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "visiongate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "visiongate.labels" -}}
{{ include "visiongate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "visiongate.secret" -}}
{{ .Values.secret.existingSecret | default (include "visiongate.name" .) }}
{{- end }}

{{- /* visiongate.yaml: what the values say, and over it what the chart must have its way about. */}}
{{- define "visiongate.config" -}}
{{- $server := dict "host" .Values.listenHost "port" 8080 "drain" (printf "%ds" (int .Values.drainSeconds)) }}
{{- if .Values.tls.secretName }}
{{- $_ := set $server "tls" (dict "cert" "/etc/visiongate/tls/tls.crt" "key" "/etc/visiongate/tls/tls.key") }}
{{- end }}
{{- $admin := dict "host" .Values.listenHost "port" 9090 }}
{{- $store := dict "data" "/var/lib/visiongate" }}
{{- $ours := dict "server" $server "admin" $admin "store" $store }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $ours) }}
{{- end }}
