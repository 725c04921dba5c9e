# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # the files share their variables
# Where everything lies on the instance, and the options of deploy.sh with their defaults.

set_places() {
    DATA=${AUTODL_DATA:-/root/autodl-tmp}
    DATA=${DATA%/}
    HOME_DIR=$DATA/duologue
    PACK_FILE=$DATA/duologue_pack.txt
    PACKAGES_ZIP=$DATA/offline_packages.zip
    MODELS_ZIP=$DATA/pretrained_models.zip
    WHEELS=$HOME_DIR/packages
    ENVIRONMENT=$HOME_DIR/environment
    MODELS=$HOME_DIR/models
    BUILT_BUNDLE=$HOME_DIR/bundle
    STAMPS=$HOME_DIR/stamps
    LOGS=$HOME_DIR/logs
    KEY_FILE=$HOME_DIR/api_key
    KEY_HASHES=$HOME_DIR/api_key_hashes
    SERVICE_FILE=$HOME_DIR/service.txt
}

set_defaults() {
    set_places
    RANKS=1 ENGINE=auto BUNDLE=auto PYTHON=''
    HTTP_PORT=6008 GRPC_PORT=8001 METRICS_PORT=9090
    WAIT_S=600 NO_START=0
    # What duologue_pack.txt says; empty and 0 where there is none.
    PACK_PYTHON='' PACK_CUDA='' PACK_INSTALLED_BYTES=0
    TTSFRD_RESOURCE=''
}

check_options() {
    local name
    for name in RANKS HTTP_PORT GRPC_PORT METRICS_PORT WAIT_S; do
        [[ ${!name} =~ ^[1-9][0-9]*$ ]] || die "$name is '${!name}'; allowed: a whole number from 1"
    done
    for name in HTTP_PORT GRPC_PORT METRICS_PORT; do
        ((${!name} <= 65535)) || die "$name is ${!name}; allowed: 1 to 65535"
    done
    [[ $ENGINE =~ ^(auto|onnx|torch|numpy|trtllm)$ ]] ||
        die "--engine is $ENGINE; allowed: auto, onnx, torch, numpy, trtllm"
    [[ $BUNDLE =~ ^(auto|default)$ ]] ||
        die "--bundle is $BUNDLE; allowed: default (a model of your own comes in" \
            "pretrained_models.zip)"
    [[ -d $DATA ]] || die "the data disk $DATA does not exist; AUTODL_DATA names another folder"
}

prepare_home() {
    mkdir -p -- "$STAMPS" "$LOGS" || die "$HOME_DIR cannot be made: is $DATA full or read-only?"
}

# identity FILE: what changes when a file is replaced, without reading it.
identity() { stat -c '%n %s %Y' -- "$1" 2>/dev/null || printf 'missing'; }
