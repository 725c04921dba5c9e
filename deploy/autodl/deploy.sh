#!/usr/bin/env bash
# Puts duologue on an AutoDL instance and starts it, without any network: from the zips that
# pack.sh made, on the data disk. May be run again at any time: what is done is skipped.
set -euo pipefail
HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
# shellcheck source=lib/common.sh
source "$HERE/lib/common.sh"
# shellcheck source=lib/places.sh
source "$HERE/lib/places.sh"
# shellcheck source=lib/checks.sh
source "$HERE/lib/checks.sh"
# shellcheck source=lib/install.sh
source "$HERE/lib/install.sh"
# shellcheck source=lib/service.sh
source "$HERE/lib/service.sh"

usage() {
    cat <<'TEXT'
usage: deploy.sh [options]      (on the instance; AUTODL_DATA names the data disk)

  --ranks N          ranks of mpirun, 1 by default; more share the model between them
  --engine NAME      auto (default), onnx, torch, numpy or trtllm
  --bundle default   speak with the small model inside the wheel: no pretrained_models.zip needed
  --http-port N      6008 by default, the port that AutoDL exposes
  --grpc-port N      8001 by default, on 127.0.0.1 alone
  --metrics-port N   9090 by default
  --python X.Y       for packs that pack.sh has not made; else the pack says it
  --wait SECONDS     how long the service may take to be ready; 600 by default
  --no-start         install, and start nothing
TEXT
}

parse_options() {
    while (($#)); do
        case $1 in
            --ranks) need_value "$1" "$@" && RANKS=$2 && shift ;;
            --engine) need_value "$1" "$@" && ENGINE=$2 && shift ;;
            --bundle) need_value "$1" "$@" && BUNDLE=$2 && shift ;;
            --http-port) need_value "$1" "$@" && HTTP_PORT=$2 && shift ;;
            --grpc-port) need_value "$1" "$@" && GRPC_PORT=$2 && shift ;;
            --metrics-port) need_value "$1" "$@" && METRICS_PORT=$2 && shift ;;
            --python) need_value "$1" "$@" && PYTHON=$2 && shift ;;
            --wait) need_value "$1" "$@" && WAIT_S=$2 && shift ;;
            --no-start) NO_START=1 ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && die "unknown option: $1" ;;
        esac
        shift
    done
}

deploy() {
    trap report_end EXIT
    say "duologue on $DATA, $(date '+%Y-%m-%d %H:%M:%S')"
    source_turbo
    plain_step "look at the machine" check_machine
    plain_step "look at the packs" read_pack_file
    plain_step "find Python" find_python
    check_packs
    plain_step "measure free space" check_space
    install_all
    if ((NO_START == 0)); then start_all; fi
}

# check_packs: name, size and hash of each zip; again only when the file has changed.
check_packs() {
    step "check offline_packages.zip" "$STAMPS/packages" "$(identity "$PACKAGES_ZIP")" \
        check_packages
    if [[ $BUNDLE != default ]]; then
        step "check pretrained_models.zip" "$STAMPS/models" "$(identity "$MODELS_ZIP")" \
            check_models
    fi
}

install_all() {
    local packages models
    packages=$(identity "$PACKAGES_ZIP")
    step "install the packages" "$ENVIRONMENT/.done" "$packages $PYTHON" install_packages
    if [[ $BUNDLE != default ]]; then
        models=$(identity "$MODELS_ZIP")
        step "unpack the models" "$MODELS/.done" "$models" unpack_models
        plain_step "take or build the engines" settle_engines
    fi
    plain_step "set up the text front end" settle_frontend
    plain_step "make the API key" make_key
}

start_all() {
    if service_runs; then
        say "[skip] start the service: it runs (process $(service_pid)); stop.sh stops it"
        read_service_file
        return
    fi
    plain_step "look for free ports" check_ports
    plain_step "start the service" start_service
    plain_step "wait until it is ready" wait_until_ready
}

main() {
    set_defaults
    parse_options "$@"
    check_options
    prepare_home
    # One at a time; the lock goes when this process ends, however it ends.
    exec 9>"$HOME_DIR/deploy.lock"
    flock -n 9 || die "another deploy.sh is at work on $DATA"
    deploy 2>&1 | tee -a "$LOGS/deploy.log"
    # Outside of the log: the lines hold the key.
    if ((NO_START == 0)); then print_address; fi
}

main "$@"
