# shellcheck shell=bash
# What all scripts share: how they speak, how they stop, and how a step that is done is skipped.

readonly TURBO_PROFILE=${AUTODL_TURBO:-/etc/network_turbo}
CURRENT_STEP=

say() { printf '%s\n' "$*"; }

warn() { printf 'warning: %s\n' "$*" >&2; }

# die MESSAGE: one clear line, and the end.
die() {
    printf 'fault: %s\n' "$*" >&2
    exit 1
}

# Names the step in which the script ended. Set as the trap of EXIT.
report_end() {
    local status=$?
    if ((status != 0)) && [[ -n $CURRENT_STEP ]]; then
        printf 'stopped in the step "%s" (exit status %s); nothing after it was done.\n' \
            "$CURRENT_STEP" "$status" >&2
        printf 'When the cause is mended, run the same command again: what is done is skipped.\n' >&2
    fi
}

# step TITLE STAMP KEY FUNCTION: run a function, unless the file STAMP says that it was done for
# the same KEY. The stamp is written last, so a step that was broken off is done again.
step() {
    local title=$1 stamp=$2 key=$3 action=$4
    CURRENT_STEP=$title
    if is_done "$stamp" "$key"; then
        say "[skip] $title: done before"
    else
        say "[step] $title"
        rm -f -- "$stamp"
        # Not behind `if` or `||`: there, bash would go on after a fault inside of it.
        "$action"
        printf '%s' "$key" >"$stamp.part"
        mv -- "$stamp.part" "$stamp"
    fi
    CURRENT_STEP=
}

# plain_step TITLE FUNCTION: a step without a stamp; cheap, or its own judge of what is done.
plain_step() {
    CURRENT_STEP=$1
    say "[step] $1"
    "$2"
    CURRENT_STEP=
}

# is_done STAMP KEY
is_done() { [[ -f $1 && $(<"$1") == "$2" ]]; }

# need_value OPTION "$@": an option's value must follow it.
need_value() {
    (($# >= 3)) || die "$1 needs a value"
}

# file_bytes FILE
file_bytes() { stat -c %s -- "$1"; }

# file_sha256 FILE
file_sha256() {
    local line
    line=$(sha256sum <"$1")
    printf '%s' "${line%% *}"
}

# free_bytes FOLDER: free space on its disk.
free_bytes() {
    local line
    line=$(df -P -B1 -- "$1" | tail -n 1)
    # The mount point comes last and may hold spaces; the available bytes stand fourth.
    awk '{ print $4 }' <<<"$line"
}

# human BYTES
human() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

# source_turbo: the network acceleration of AutoDL, where there is one. Its proxy must never
# stand between the programs of this machine: gRPC would take it even for 127.0.0.1.
source_turbo() {
    if [[ -f $TURBO_PROFILE ]]; then
        say "network acceleration: $TURBO_PROFILE"
        set +u
        # shellcheck source=/dev/null
        source "$TURBO_PROFILE"
        set -u
    fi
    export no_proxy="127.0.0.1,localhost,::1${no_proxy:+,$no_proxy}"
    export NO_PROXY=$no_proxy
}
