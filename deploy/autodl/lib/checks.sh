# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # the files share their variables
# Everything that is looked at before anything is changed.

readonly MIN_GLIBC=2.35
readonly MIN_SHM_BYTES=$((48 * 1024 * 1024))
# What the system disk must have for temporary files of a running service.
readonly SYSTEM_BYTES=$((256 * 1024 * 1024))
readonly SLACK_BYTES=$((256 * 1024 * 1024))

check_machine() {
    [[ $(uname -sm) == 'Linux x86_64' ]] ||
        die "this machine is $(uname -sm); the packages are for Linux x86_64"
    local glibc program
    for program in sha256sum flock df awk tee setsid; do
        command -v "$program" >/dev/null || die "the program $program is missing"
    done
    glibc=$(getconf GNU_LIBC_VERSION)
    glibc=${glibc##* }
    [[ $(printf '%s\n' "$MIN_GLIBC" "$glibc" | sort -V | head -n 1) == "$MIN_GLIBC" ]] ||
        die "glibc is $glibc; the Triton server needs $MIN_GLIBC: choose an image with" \
            "Ubuntu 22.04 or newer"
    [[ -d /dev/shm ]] || die "/dev/shm is missing; the Triton server needs it"
    (($(free_bytes /dev/shm) >= MIN_SHM_BYTES)) ||
        die "/dev/shm has $(human "$(free_bytes /dev/shm)") free; the Triton server needs" \
            "$(human "$MIN_SHM_BYTES")"
}

# Reads duologue_pack.txt if it is there: "python 3.11", "file SHA256 BYTES NAME", ...
read_pack_file() {
    [[ -f $PACKAGES_ZIP ]] || die "$PACKAGES_ZIP is missing: make it with pack.sh on a machine" \
        "with a network and upload it to $DATA"
    [[ $BUNDLE == default || -f $MODELS_ZIP ]] ||
        die "$MODELS_ZIP is missing: make it with pack.sh and upload it to $DATA, or speak with" \
            "the small model inside the wheel: --bundle default"
    if [[ ! -f $PACK_FILE ]]; then
        warn "$PACK_FILE is missing: sizes and hashes of the zips cannot be compared"
        return
    fi
    local name value
    while read -r name value; do
        case $name in
            duologue_pack)
                [[ $value == 1 ]] || die "$PACK_FILE has version $value; this deploy.sh reads 1"
                ;;
            python) PACK_PYTHON=$value ;;
            cuda) PACK_CUDA=$value ;;
            installed_bytes) PACK_INSTALLED_BYTES=$value ;;
        esac
    done <"$PACK_FILE"
}

# The Python of the pack: on PATH, in the conda of the image, or one that uv knows.
find_python() {
    [[ -z $PYTHON || -z $PACK_PYTHON || $PYTHON == "$PACK_PYTHON" ]] ||
        die "--python is $PYTHON, and the pack was made for $PACK_PYTHON"
    PYTHON=${PYTHON:-$PACK_PYTHON}
    local any candidate
    any=$(command -v python3 || command -v /root/miniconda3/bin/python3) || die "no Python is here"
    if [[ -z $PYTHON ]]; then
        PYTHON=$("$any" "$HERE/lib/foreign.py" python "$PACKAGES_ZIP")
        PYTHON=${PYTHON:-3.11}
    fi
    for candidate in "python$PYTHON" python3 python /root/miniconda3/bin/python \
        /root/miniconda3/envs/*/bin/python; do
        if is_python "$candidate"; then
            INTERPRETER=$(command -v "$candidate")
            say "Python $PYTHON: $INTERPRETER"
            return
        fi
    done
    if command -v uv >/dev/null && candidate=$(uv python find --offline -q "$PYTHON"); then
        INTERPRETER=$candidate
        say "Python $PYTHON: $INTERPRETER, known to uv"
        return
    fi
    die "the pack is for Python $PYTHON, which is not here ($("$any" --version) is): choose an" \
        "image with it, or pack again with --python"
}

# is_python COMMAND: it runs, and is the Python that is wanted.
is_python() {
    command -v "$1" >/dev/null &&
        [[ $("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) == "$PYTHON" ]]
}

check_packages() { check_zip "$PACKAGES_ZIP"; }

check_models() { check_zip "$MODELS_ZIP"; }

# check_zip FILE: against duologue_pack.txt where that has it, else against itself.
check_zip() {
    local archive=$1 name=${1##*/} word digest size entry
    if [[ -f $PACK_FILE ]]; then
        while read -r word digest size entry; do
            if [[ $word == file && $entry == "$name" ]]; then
                compare_zip "$archive" "$digest" "$size"
                return
            fi
        done <"$PACK_FILE"
    fi
    # Reads its list of files, which stands at the end: a file that was cut short has none.
    "$INTERPRETER" "$HERE/lib/packfile.py" size "$archive" >/dev/null
    if [[ $("$INTERPRETER" "$HERE/lib/foreign.py" ours "$archive") == no ]]; then
        warn "$archive was not made by pack.sh: it is used as far as it fits"
    fi
}

# compare_zip FILE SHA256 BYTES
compare_zip() {
    local size
    size=$(file_bytes "$1")
    ((size == $3)) || die "$1 has $size bytes, and $3 were packed: the upload was cut short or" \
        "is of another pack; upload it again"
    [[ $(file_sha256 "$1") == "$2" ]] || die "$1 has the right size and the wrong sha256: it was" \
        "damaged or changed; upload it again"
    say "${1##*/}: $(human "$size"), sha256 as packed"
}

# Only what is still to be done takes space.
check_space() {
    local needed=$SLACK_BYTES packages models=0
    if ! is_done "$ENVIRONMENT/.done" "$(identity "$PACKAGES_ZIP") $PYTHON"; then
        packages=$("$INTERPRETER" "$HERE/lib/packfile.py" size "$PACKAGES_ZIP")
        # Wheels of others tell nothing: unpacked, they take about three times as much.
        needed=$((needed + packages +
            (PACK_INSTALLED_BYTES > 0 ? PACK_INSTALLED_BYTES : 3 * packages)))
    fi
    if [[ $BUNDLE != default ]] && ! is_done "$MODELS/.done" "$(identity "$MODELS_ZIP")"; then
        models=$("$INTERPRETER" "$HERE/lib/packfile.py" size "$MODELS_ZIP")
        needed=$((needed + models))
    fi
    require_space "the data disk" "$DATA" "$needed"
    require_space "the system disk" "${TMPDIR:-/tmp}" "$SYSTEM_BYTES"
}

# require_space NAME FOLDER BYTES
require_space() {
    local free
    free=$(free_bytes "$2")
    ((free >= $3)) || die "$1 ($2) has $(human "$free") free; $(human "$3") are needed"
    say "$1 ($2): $(human "$free") free, $(human "$3") needed"
}

# Each port must be free: a service that cannot listen would be found out only after its start.
check_ports() {
    "$ENVIRONMENT/bin/python" - "$HTTP_PORT" 0.0.0.0 "$GRPC_PORT" 127.0.0.1 \
        "$METRICS_PORT" 0.0.0.0 <<'PYTHON'
import socket
import sys

for port, host in zip(sys.argv[1::2], sys.argv[2::2]):
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, int(port)))
        except OSError as error:
            sys.exit(
                f"fault: port {port} on {host} cannot be used ({error.strerror}): stop what "
                "listens there, or choose another (--http-port, --grpc-port, --metrics-port)"
            )
PYTHON
}
