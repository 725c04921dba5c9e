#!/usr/bin/env bash
# What the service of deploy.sh is doing. Exit status: 0 ready, 1 not running, 2 not ready.
set -euo pipefail
HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
# shellcheck source=lib/common.sh
source "$HERE/lib/common.sh"
# shellcheck source=lib/places.sh
source "$HERE/lib/places.sh"
# shellcheck source=lib/service.sh
source "$HERE/lib/service.sh"

main() {
    local answer
    set_defaults
    read_service_file
    if ! service_runs; then
        say "duologue does not run on $DATA; deploy.sh starts it"
        if [[ -s $LOGS/service.log ]]; then
            say "last lines of $LOGS/service.log:"
            tail -n 5 -- "$LOGS/service.log"
        fi
        exit 1
    fi
    answer=$(readiness)
    say "process $SERVICE_PID, $RANKS rank(s): $answer"
    say "http://127.0.0.1:$HTTP_PORT    gRPC 127.0.0.1:$GRPC_PORT    metrics :$METRICS_PORT"
    say "logs: $LOGS    key: $KEY_FILE"
    [[ $answer == ready ]] || exit 2
}

main "$@"
