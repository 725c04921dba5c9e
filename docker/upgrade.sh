#!/usr/bin/env bash
# Put a new version in the place of the running one, and go back if it does not get healthy.
#
#   docker/upgrade.sh NEW_IMAGE        e.g. docker/upgrade.sh duologue:0.2
#
# COMPOSE_FILE, ENV_FILE and BACKUP_DIR name other places; READY_TIMEOUT_S (300) limits the wait.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
COMPOSE_FILE=${COMPOSE_FILE:-$HERE/compose.yaml}
ENV_FILE=${ENV_FILE:-$HERE/.env}
BACKUP_DIR=${BACKUP_DIR:-$HERE/backups}
READY_TIMEOUT_S=${READY_TIMEOUT_S:-300}
SERVICE=${SERVICE:-duologue}
STEP_S=${STEP_S:-3}

say() { printf '%s\n' "$*"; }
fail() { printf 'upgrade: %s\n' "$*" >&2; exit 1; }

compose() { docker compose --file "$COMPOSE_FILE" --env-file "$ENV_FILE" "$@"; }

back_up() {
    local target
    target=$BACKUP_DIR/$(date +%Y%m%d-%H%M%S)
    mkdir -p "$target"
    cp -p "$COMPOSE_FILE" "$ENV_FILE" "$target/"
    say "$target"
}

set_image() {
    local image=$1 draft
    draft=$(mktemp "$ENV_FILE.XXXXXX")
    grep -v '^DUOLOGUE_IMAGE=' "$ENV_FILE" >"$draft" || true
    printf 'DUOLOGUE_IMAGE=%s\n' "$image" >>"$draft"
    chmod --reference="$ENV_FILE" "$draft"
    mv "$draft" "$ENV_FILE"
}

wait_until_healthy() {
    local waited=0 health container
    while [ "$waited" -lt "$READY_TIMEOUT_S" ]; do
        container=$(compose ps --quiet "$SERVICE" || true)
        health=none
        if [ -n "$container" ]; then
            health=$(docker inspect --format '{{.State.Health.Status}}' "$container" || echo none)
        fi
        [ "$health" = healthy ] && return 0
        sleep "$STEP_S"
        waited=$((waited + STEP_S))
    done
    return 1
}

main() {
    [ $# -eq 1 ] || fail "say which image: $0 NEW_IMAGE"
    local image=$1 backup
    [ -f "$ENV_FILE" ] || fail "there is no $ENV_FILE; see .env.example"
    docker image inspect "$image" >/dev/null 2>&1 || fail "there is no image $image here; build or pull it first"

    backup=$(back_up)
    say "configuration backed up to $backup"
    set_image "$image"
    say "starting $image"
    if compose up --detach --no-build && wait_until_healthy; then
        say "healthy: $image"
        return 0
    fi
    say "$image did not get healthy; its last words:"
    compose logs --tail 30 "$SERVICE" || true
    cp -p "$backup/$(basename "$ENV_FILE")" "$ENV_FILE"
    say "going back to the version before"
    compose up --detach --no-build && wait_until_healthy \
        || fail "the version before did not get healthy either; configuration is as in $backup"
    fail "went back; nothing has changed"
}

main "$@"
