#!/usr/bin/env bash
# deploy.sh under the name that people know.
set -euo pipefail
exec "$(dirname -- "${BASH_SOURCE[0]}")/deploy.sh" "$@"
