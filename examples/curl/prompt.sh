#!/bin/sh
# Prompts an agent over HTTP with curl. Prints what its commands print, and how it ended. Ctrl-C aborts the prompt.
#
#   sh prompt.sh MESSAGE [INSTANCE]
set -eu
[ $# -gt 0 ] && [ -n "$1" ] || { echo "usage: sh prompt.sh MESSAGE [INSTANCE]" >&2 && exit 2; }
top=$(cd "$(dirname "$0")/../.." && pwd)
server=${PAWL_SERVER:-http://127.0.0.1:3000}
dir=$(mktemp -d) reader='' submission=''
trap 'rm -rf "$dir"; kill $reader 2>/dev/null || :' EXIT

# The token is in a file that only its owner reads: everybody can see the arguments of a process.
token=$(cat "${PAWL_TOKEN_FILE:-$top/.pawl/token}")
(umask 077 && printf 'header = "Authorization: Bearer %s"\n' "$token" >"$dir/config")
set -- "$1" "${2:-curl}" --config "$dir/config" --silent --show-error ${PAWL_CA:+--cacert "$PAWL_CA"}
message=$1 instance=$2
shift 2 # what is left are curl's arguments

# field NAME: the string of this name in a line of JSON.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# The message as JSON: backslashes, quotes, tabs and line breaks are escaped.
tab=$(printf '\t')
text=$(printf '%s\n' "$message" | sed "s/[\\\\\"]/\\\\&/g; s/$tab/\\\\t/g" |
  awk '{ printf "%s%s", (NR > 1 ? "\\n" : ""), $0 }')
body="{\"message\":\"$text\"}"

# The key makes the prompt one, however often it is sent.
key=$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid)
accepted=$(curl "$@" --fail-with-body --retry 5 --retry-delay 1 --retry-connrefused \
  --header "Idempotency-Key: $key" --json "$body" \
  "$server/v1/agents/shell/instances/$instance:dispatch")
session=$(printf "%s\n" "$accepted" | field sessionId)
submission=$(printf "%s\n" "$accepted" | field submissionId)
trap 'curl "$@" --json "{}" "$server/v1/submissions/$submission:abort" >"$dir/aborted"' INT TERM

# Server-sent events: the id of each is the cursor to go on after.
cursor=0 outcome='' lost=0
mkfifo "$dir/events"
while [ -z "$outcome" ]; do
  curl "$@" --no-buffer --header "Accept: text/event-stream" --header "Last-Event-ID: $cursor" \
    "$server/v1/sessions/$session/events" >"$dir/events" &
  reader=$!
  while [ -z "$outcome" ] && IFS= read -r line; do
    case $line in
    id:*) cursor=${line#id: } lost=0 ;;
    data:*'"toolOutput"'*) printf "%s\n" "$line" | field data | base64 -d ;;
    data:*"\"submissionId\":\"$submission\""*'"settled"'*) outcome=$(printf "%s\n" "$line" | field outcome) ;;
    esac
  done <"$dir/events"
  kill $reader 2>/dev/null || :
  [ -n "$outcome" ] && break
  echo "the connection was lost after event $cursor" >&2
  lost=$((lost + 1)) # in a row: for half a minute it may come back
  [ $lost -lt 60 ] || exit 1
  sleep 0.5
done
echo "$outcome"
[ "$outcome" = OUTCOME_COMPLETED ]
