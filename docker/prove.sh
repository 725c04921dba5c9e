#!/usr/bin/env bash
# Do what `docker build -f docker/Dockerfile.cpu .` and then `docker run` do, without Docker: the
# context as .dockerignore leaves it, the RUN line in a fresh folder, the server as its entry point
# starts it, one dialogue over HTTP. Needs the Python that the image has (3.11).
#
#   docker/prove.sh [WORK_DIR]
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORK=${1:-$(mktemp -d)}
PYTHON=${PYTHON:-python3.11}
PORT=${PORT:-9000}
METRICS_PORT=${METRICS_PORT:-9090}
KEY=a-key-for-this-run
SERVER=

say() { printf '%s\n' "$*"; }
clean_up() { [ -z "$SERVER" ] || { kill "$SERVER" 2>/dev/null; wait "$SERVER" || true; }; }
trap clean_up EXIT

copy_context() {
    mkdir -p "$WORK/src"
    # Only what git knows: the same or less than .dockerignore leaves.
    git -C "$HERE/.." ls-files -z | tar -C "$HERE/.." --null -T - -cf - | tar -C "$WORK/src" -xf -
}

run_line() {
    local extras
    extras=$(sed -n "s/.*'\(\.\[[a-z,]*\]\)'.*/\1/p" "$HERE/Dockerfile.cpu")
    [ -n "$extras" ] || { say "Dockerfile.cpu installs nothing that is known"; exit 1; }
    "$PYTHON" -m venv "$WORK/opt"
    (cd "$WORK/src" && "$WORK/opt/bin/pip" install --no-cache-dir --disable-pip-version-check -q "$extras")
}

start() {
    # A small environment, as in a container: nothing of the caller's but HOME and TMPDIR.
    env -i HOME="$WORK" TMPDIR="${TMPDIR:-/tmp}" PATH="$WORK/opt/bin:/usr/bin:/bin" \
        XDG_DATA_HOME="$WORK/data" XDG_RUNTIME_DIR="$WORK/run" DUOLOGUE_AUTH__KEYS="[\"$KEY\"]" \
        "$WORK/opt/bin/duologue" serve --host 0.0.0.0 --grpc-port 0 --http-port "$PORT" \
        --metrics-port "$METRICS_PORT" >"$WORK/server.log" 2>&1 &
    SERVER=$!
}

wait_until_healthy() {
    local check
    # The image's own health check, on this run's port.
    check=$(sed -n 's/.*"-c", "\(.*\)"\]$/\1/p' "$HERE/Dockerfile.cpu" | sed "s/9000/$PORT/")
    for _ in $(seq 120); do
        if "$WORK/opt/bin/python" -c "$check" 2>/dev/null; then return; fi
        kill -0 "$SERVER" 2>/dev/null || { tail -20 "$WORK/server.log"; exit 1; }
        sleep 1
    done
    say "not healthy after 120 s"; tail -20 "$WORK/server.log"; exit 1
}

speak() {
    local status
    status=$(curl -sS -o /dev/null -w '%{http_code}' -X POST "http://127.0.0.1:$PORT/v1/audio/speech" \
        -H 'Content-Type: application/json' -d '{"model": "tts-1", "voice": "alloy", "input": "[S1]Hi."}')
    [ "$status" = 401 ] || { say "without a key the answer was $status, not 401"; exit 1; }
    curl -sS --fail -o "$WORK/talk.wav" "http://127.0.0.1:$PORT/v1/audio/speech" \
        -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
        -d '{"model": "tts-1", "voice": "alloy", "input": "[S1]Is this the image?[S2]Nearly.", "response_format": "wav"}'
    [ "$(stat -c %s "$WORK/talk.wav")" -gt 20000 ] || { say "too little audio"; exit 1; }
}

copy_context
run_line
start
wait_until_healthy
speak
say "spoken: $WORK/talk.wav"
