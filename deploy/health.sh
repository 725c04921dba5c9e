#!/usr/bin/env bash
# Is duologue well? Asks the service, the GPUs if there are any, and the disk.
#
#   deploy/health.sh [URL]
#
# DUOLOGUE_URL       the gateway, where no URL is given; default http://localhost:9000
# DUOLOGUE_STORAGE   folder whose disk is looked at; default /app/storage, or else this folder
# DISK_WARN_PERCENT  use of the disk above which to warn; default 80
# HEALTH_TIMEOUT_S   seconds that the service may take to answer; default 10
#
# Exit status: 0 the service is well (there may be warnings), 1 it is not, 2 wrong usage.
set -euo pipefail

readonly WARN_PERCENT=${DISK_WARN_PERCENT:-80}
readonly TIMEOUT_S=${HEALTH_TIMEOUT_S:-10}

ok() { printf '[ok]   %s\n' "$*"; }
warn() { printf '[warn] %s\n' "$*"; }
fail() { printf '[FAIL] %s\n' "$*"; }

check_service() {
    local url=$1 answer code
    if ! command -v curl >/dev/null; then
        fail "service: curl is not installed, so it cannot be asked"
        return 1
    fi
    # The code stands in the last line, behind the body.
    if ! answer=$(curl -sS --max-time "$TIMEOUT_S" -w '\n%{http_code}' "$url/health" 2>&1); then
        fail "service: no answer from $url: ${answer%%$'\n'*}"
        return 1
    fi
    code=${answer##*$'\n'}
    if [[ $code != 200 ]]; then
        fail "service: $url answers $code: ${answer%$'\n'*}"
        return 1
    fi
    ok "service: $url: ${answer%$'\n'*}"
}

check_gpus() {
    local rows index used total busy
    if ! command -v nvidia-smi >/dev/null; then
        ok "GPU: none (no nvidia-smi)"
        return
    fi
    local query=index,memory.used,memory.total,utilization.gpu
    if ! rows=$(nvidia-smi "--query-gpu=$query" --format=csv,noheader,nounits 2>&1); then
        warn "GPU: nvidia-smi fails: ${rows%%$'\n'*}"
        return
    fi
    while IFS=', ' read -r index used total busy; do
        ok "GPU $index: $used of $total MB in use, $busy % busy"
    done <<<"$rows"
}

check_disk() {
    local folder=$1 percent
    percent=$(df -P -- "$folder" 2>/dev/null | awk 'NR == 2 { sub("%", "", $5); print $5 }') || true
    if ! [[ $percent =~ ^[0-9]+$ ]]; then
        warn "disk: df says nothing about $folder"
    elif ((percent > WARN_PERCENT)); then
        warn "disk: $percent % of the disk of $folder is in use, more than $WARN_PERCENT %"
    else
        ok "disk: $percent % of the disk of $folder is in use"
    fi
}

main() {
    local url storage status=0
    if (($# > 1)) || [[ ${1:-} == -* ]]; then
        printf 'usage: %s [URL]\n' "$0" >&2
        exit 2
    fi
    url=${1:-${DUOLOGUE_URL:-http://localhost:9000}}
    storage=${DUOLOGUE_STORAGE:-/app/storage}
    if [[ -z ${DUOLOGUE_STORAGE:-} && ! -d $storage ]]; then
        storage=.
    fi
    check_service "${url%/}" || status=1
    check_gpus
    check_disk "$storage"
    exit "$status"
}

main "$@"
