# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # the files share their variables
# The running service: its key, its start under mpirun, its end, and what is known of it.

readonly STOP_S=40

# The file of the key is the truth; its line in the file of the hashes, which the service reads,
# follows it. Lines for other people's keys are theirs and stay.
make_key() {
    local key digest
    if [[ ! -s $KEY_FILE ]]; then
        key=$("$ENVIRONMENT/bin/python" -c 'import secrets
print("sk-duologue-" + secrets.token_urlsafe(32))')
        (umask 077 && printf '%s\n' "$key" >"$KEY_FILE.part")
        mv -- "$KEY_FILE.part" "$KEY_FILE"
    fi
    chmod 600 -- "$KEY_FILE"
    digest=$(printf '%s' "$(<"$KEY_FILE")" | sha256sum)
    (umask 077 && write_hashes "${digest%% *}" >"$KEY_HASHES.part")
    # In one piece: the service reads the file again whenever it changes.
    mv -- "$KEY_HASHES.part" "$KEY_HASHES"
}

# write_hashes DIGEST: our own line, with the scopes and limits that somebody may have given it
# meanwhile, and all others.
write_hashes() {
    grep -s -m 1 -E "^autodl[[:space:]]+$1([[:space:]]|\$)" -- "$KEY_HASHES" ||
        printf 'autodl %s scopes=speak,voices,admin\n' "$1"
    if [[ -f $KEY_HASHES ]]; then awk '$1 != "autodl"' "$KEY_HASHES"; fi
}

start_service() {
    local arguments=(serve --engine "$ENGINE" --bundle "$BUNDLE" --host 0.0.0.0
        --http-port "$HTTP_PORT" --grpc-port "$GRPC_PORT" --metrics-port "$METRICS_PORT"
        --keys-file "$KEY_HASHES" --log "$LOGS/triton.log")
    if [[ $PACK_CUDA != cpu && -n $PACK_CUDA && ! -e /dev/nvidiactl ]]; then
        warn "the pack is for CUDA $PACK_CUDA, and no GPU is visible: everything runs on the CPU"
    fi
    if [[ -s $LOGS/service.log ]]; then mv -f -- "$LOGS/service.log" "$LOGS/service.log.1"; fi
    if [[ -n $TTSFRD_RESOURCE ]]; then export DUOLOGUE_TTSFRD_RESOURCE=$TTSFRD_RESOURCE; fi
    # A session of its own: it outlives this terminal. The lock of deploy.sh is not handed on.
    setsid "$ENVIRONMENT/bin/python" "$HERE/lib/launch.py" "$RANKS" "$ENGINE" "${arguments[@]}" \
        >"$LOGS/service.log" 2>&1 </dev/null 9>&- &
    write_service_file "$!"
    say "process $!, $RANKS rank(s), engine $ENGINE; log: $LOGS/service.log"
}

# write_service_file PID
write_service_file() {
    printf 'pid %s\nborn %s\nhttp_port %s\ngrpc_port %s\nmetrics_port %s\nranks %s\n' \
        "$1" "$(birth_of "$1")" "$HTTP_PORT" "$GRPC_PORT" "$METRICS_PORT" "$RANKS" \
        >"$SERVICE_FILE.part"
    mv -- "$SERVICE_FILE.part" "$SERVICE_FILE"
}

# birth_of PID: when the process began, in ticks since the machine's start; a process id is used
# again, the pair is not. Empty when there is no such process.
birth_of() {
    local text
    text=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # The name in brackets may hold spaces; the 20th word behind it is the birth.
    awk '{ print $20 }' <<<"${text##*) }"
}

read_service_file() {
    local name value
    SERVICE_PID='' SERVICE_BORN=''
    if [[ ! -f $SERVICE_FILE ]]; then return; fi
    while read -r name value; do
        case $name in
            pid) SERVICE_PID=$value ;;
            born) SERVICE_BORN=$value ;;
            http_port) HTTP_PORT=$value ;;
            grpc_port) GRPC_PORT=$value ;;
            metrics_port) METRICS_PORT=$value ;;
            ranks) RANKS=$value ;;
        esac
    done <"$SERVICE_FILE"
}

service_pid() { (read_service_file && printf '%s' "$SERVICE_PID"); }

# service_runs: the process of the service file lives. Leaves the ports of the options alone.
service_runs() {
    (
        read_service_file
        [[ -n $SERVICE_PID && -n $SERVICE_BORN && $(birth_of "$SERVICE_PID") == "$SERVICE_BORN" ]]
    )
}

# readiness: "ready", or why not.
readiness() {
    "$ENVIRONMENT/bin/python" - "$HTTP_PORT" <<'PYTHON'
import http.client
import json
import sys
import urllib.error
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=5) as answer:
        print("ready" if answer.status == 200 else f"status {answer.status}")
except urllib.error.HTTPError as error:
    try:
        reasons = json.loads(error.read())["reasons"]
    except (ValueError, LookupError, TypeError, OSError, http.client.HTTPException):
        reasons = []
    print("; ".join(reasons) or f"status {error.code}")
except (OSError, http.client.HTTPException) as error:
    print(f"port {sys.argv[1]} does not answer: {getattr(error, 'reason', error)}")
PYTHON
}

wait_until_ready() {
    local began=$SECONDS answer
    while true; do
        answer=$(readiness)
        if [[ $answer == ready ]]; then
            say "ready after $((SECONDS - began)) s"
            return
        fi
        if ! service_runs; then
            tail -n 20 -- "$LOGS/service.log" >&2
            die "the service ended by itself; its last lines stand above, all of them in" \
                "$LOGS/service.log and $LOGS/triton.log"
        fi
        ((SECONDS - began < WAIT_S)) ||
            die "the service is not ready after $WAIT_S s ($answer); it still runs: see" \
                "$LOGS/service.log, wait with --wait, or end it with stop.sh"
        sleep 0.5
    done
}

print_address() {
    local public=AutoDLService${HTTP_PORT}URL
    read_service_file
    say ""
    say "duologue is ready"
    say "  here       http://127.0.0.1:$HTTP_PORT    gRPC 127.0.0.1:$GRPC_PORT"
    if [[ -n ${!public:-} ]]; then
        say "  outside    ${!public}    (the custom service of the instance)"
    fi
    say "  tunnel     ssh -CNg -L $HTTP_PORT:127.0.0.1:$HTTP_PORT -L $GRPC_PORT:127.0.0.1:$GRPC_PORT" \
        "root@HOST -p PORT    (HOST and PORT of the instance's ssh line)"
    say "  API key    $(<"$KEY_FILE")    (kept in $KEY_FILE)"
    say "  logs       $LOGS"
    say "  try        curl -o talk.wav http://127.0.0.1:$HTTP_PORT/v1/audio/speech \\"
    say "               -H \"Authorization: Bearer \$(cat '$KEY_FILE')\"" \
        "-H 'Content-Type: application/json' \\"
    say "               -d '{\"model\": \"tts-1\", \"voice\": \"alloy\"," \
        "\"response_format\": \"wav\", \"input\": \"[S1]Tea?[S2]Coffee.\"}'"
}

# rank_zero: the process that serves. Open MPI 5 gives its ranks a moment only when mpirun is
# asked to end, so the rank itself is asked; mpirun ends after it.
rank_zero() {
    local folder
    for folder in /proc/[0-9]*; do
        if is_rank_zero "$folder" 2>/dev/null; then
            printf '%s' "${folder##*/}"
            return
        fi
    done
}

# is_rank_zero FOLDER: of /proc. The file of the hashes tells our service from others.
is_rank_zero() {
    local words environment each
    mapfile -d '' -t words <"$1/cmdline" || return 1
    [[ ${words[*]} == *" -m duologue.cli serve "* && ${words[*]} == *" $KEY_HASHES "* ]] || return 1
    mapfile -d '' -t environment <"$1/environ" || return 1
    # No pipe into grep -q: it leaves early, and with pipefail the writer's fault would count.
    for each in "${environment[@]}"; do
        if [[ $each == OMPI_COMM_WORLD_RANK=0 ]]; then return 0; fi
    done
    return 1
}

# stop_service: asks, waits, and ends what has not ended by then.
stop_service() {
    read_service_file
    local began=$SECONDS rank
    rank=$(rank_zero)
    # What has ended meanwhile cannot be signalled, which is no fault.
    if ! kill -TERM "${rank:-$SERVICE_PID}" 2>/dev/null; then
        say "process ${rank:-$SERVICE_PID} has ended by itself"
    fi
    while service_runs; do
        if ((SECONDS - began >= STOP_S)); then
            warn "the service has not ended in $STOP_S s and is killed"
            # mpirun, and rank 0, which has a group of its own; Triton ends with rank 0.
            if ! kill -KILL -- "-$SERVICE_PID" ${rank:+"$rank"} 2>/dev/null; then
                say "some of its processes had ended by themselves"
            fi
            break
        fi
        sleep 0.2
    done
    rm -f -- "$SERVICE_FILE"
    say "stopped after $((SECONDS - began)) s"
}
