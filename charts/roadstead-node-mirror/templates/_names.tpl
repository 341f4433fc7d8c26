{{- define "roadstead-node-mirror.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "roadstead-node-mirror.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains (include "roadstead-node-mirror.name" .) .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "roadstead-node-mirror.name" .) | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "roadstead-node-mirror.selectorLabels" -}}
app.kubernetes.io/name: {{ include "roadstead-node-mirror.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "roadstead-node-mirror.labels" -}}
{{ include "roadstead-node-mirror.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "roadstead-node-mirror.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{- /* The settings that the program reads: authorities by the paths at which they are mounted. */ -}}
{{- define "roadstead-node-mirror.settings" -}}
{{- $hosts := list }}
{{- range $number, $host := .Values.hosts }}
{{- $mirrors := list }}
{{- range $index, $mirror := $host.mirrors }}
{{- $entry := dict "endpoint" $mirror.endpoint "capabilities" (default (list "pull" "resolve") $mirror.capabilities) }}
{{- with $mirror.authority }}
{{- $_ := set $entry "authority" (printf "/authorities/%d-%d/%s" $number $index (default "ca.crt" .key)) }}
{{- end }}
{{- $mirrors = append $mirrors $entry }}
{{- end }}
{{- $entry := dict "host" $host.host "mirrors" $mirrors }}
{{- with $host.fallback }}
{{- $_ := set $entry "fallback" . }}
{{- end }}
{{- $hosts = append $hosts $entry }}
{{- end }}
{{- dict "hosts" $hosts | toPrettyJson }}
{{- end }}
