#!/usr/bin/env bash
# Stops the service of deploy.sh: running streams end, then mpirun and the Triton server.
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
    set_defaults
    if ! service_runs; then
        rm -f -- "$SERVICE_FILE"
        say "duologue does not run on $DATA"
        return
    fi
    stop_service
}

main "$@"
