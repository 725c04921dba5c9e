#!/usr/bin/env bash
# Makes everything that deploy.sh needs on a machine without a network: offline_packages.zip,
# pretrained_models.zip, duologue_pack.txt, and copies of the scripts, all in one folder to upload.
set -euo pipefail
HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
# shellcheck source=lib/common.sh
source "$HERE/lib/common.sh"
# shellcheck source=lib/pack_steps.sh
source "$HERE/lib/pack_steps.sh"

usage() {
    cat <<'TEXT'
usage: pack.sh [options]        (Linux x86_64 with a network; the source tree of duologue)

  --python X.Y       Python of the instance: 3.10, 3.11 (default) or 3.12
  --cuda VERSION     12.4, 12.6, 12.8, 13.0, or cpu (default); not newer than the driver allows
  --bundle DIR       bundle to pack; default: models/default of the source tree
  --lm DIR --codec DIR   checkpoints instead of a bundle; the instance builds the engines (CUDA only)
  --ttsfrd DIR       folder CosyVoice-ttsfrd: its wheels and resources become the text front end
  --out DIR          where the pack goes; default: out/autodl
  --dry-run          resolve the lock, print it, write nothing else
  --wheel FILE       a wheel of duologue that was built before; default: build it
  --index-url URL    package index; default: that of pip and uv
  --find-links DIR   a folder of wheels to look into first; may be repeated
  --no-index         take wheels from --find-links alone
  --no-models        leave pretrained_models.zip out: deploy.sh --bundle default needs none
TEXT
}

parse_options() {
    while (($#)); do
        case $1 in
            --python) need_value "$1" "$@" && PYTHON=$2 && shift ;;
            --cuda) need_value "$1" "$@" && CUDA=$2 && shift ;;
            --bundle) need_value "$1" "$@" && BUNDLE=$2 && shift ;;
            --lm) need_value "$1" "$@" && LM=$2 && shift ;;
            --codec) need_value "$1" "$@" && CODEC=$2 && shift ;;
            --ttsfrd) need_value "$1" "$@" && TTSFRD=$2 && shift ;;
            --out) need_value "$1" "$@" && OUT=$2 && shift ;;
            --wheel) need_value "$1" "$@" && WHEEL=$2 && shift ;;
            --index-url) need_value "$1" "$@" && INDEX_URL=$2 && shift ;;
            --find-links) need_value "$1" "$@" && FIND_LINKS+=("$2") && shift ;;
            --no-index) NO_INDEX=1 ;;
            --no-models) NO_MODELS=1 ;;
            --dry-run) DRY_RUN=1 ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && die "unknown option: $1" ;;
        esac
        shift
    done
}

main() {
    set_pack_defaults
    parse_options "$@"
    trap report_end EXIT
    source_turbo
    check_pack_options
    plain_step "prepare the tools" prepare_tools
    plain_step "build the wheel of duologue" build_wheel
    plain_step "resolve the lock" resolve_lock
    if ((DRY_RUN)); then
        print_lock
        return
    fi
    plain_step "download the wheels" download_wheels
    plain_step "write offline_packages.zip" write_packages
    if ((NO_MODELS == 0)); then
        plain_step "write pretrained_models.zip" write_models
    fi
    plain_step "write duologue_pack.txt" write_pack_file
    say "upload everything in $OUT to /root/autodl-tmp of the instance; there: bash deploy.sh"
}

main "$@"
