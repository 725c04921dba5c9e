# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # the files share their variables
# Packages, models and engines. Everything goes to the data disk; nothing asks a network.

# The wheels are unpacked, installed into a new environment, and removed again.
install_packages() {
    rm -rf -- "$WHEELS" "$ENVIRONMENT" "$HOME_DIR/tmp"
    mkdir -p -- "$WHEELS" "$HOME_DIR/tmp"
    say "unpacking the wheels"
    "$INTERPRETER" "$HERE/lib/packfile.py" unpack "$PACKAGES_ZIP" "$WHEELS"
    say "making the environment with $(uses_uv && printf uv || printf pip)"
    if uses_uv; then
        uv venv -q --offline --no-config --python "$INTERPRETER" "$ENVIRONMENT"
    else
        "$INTERPRETER" -m venv --without-pip "$ENVIRONMENT"
    fi
    if [[ -f $WHEELS/requirements.lock ]]; then
        install_wheels "$WHEELS/wheels" --require-hashes -r "$WHEELS/requirements.lock"
    else
        install_foreign
    fi
    rm -rf -- "$WHEELS" "$HOME_DIR/tmp"
    "$ENVIRONMENT/bin/python" -m duologue.cli --help >/dev/null
}

uses_uv() { command -v uv >/dev/null; }

# install_wheels FOLDER ARGUMENTS...: from that folder and from nowhere else, whatever the
# configuration of pip or uv on this machine says. Temporary files stay on the data disk.
install_wheels() {
    local folder=$1 python=$ENVIRONMENT/bin/python
    shift
    if uses_uv; then
        TMPDIR=$HOME_DIR/tmp uv pip install -q --offline --no-index --no-config --no-cache \
            --python "$python" --find-links "$folder" "$@"
        return
    fi
    local pip_wheel
    pip_wheel=$(compgen -G "$folder/pip-*.whl" | head -n 1) ||
        die "the pack has no wheel of pip, and uv is not here: pack again with pack.sh"
    # A wheel is a zip, from which Python runs pip without installing it.
    env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 \
        TMPDIR="$HOME_DIR/tmp" "$python" "$pip_wheel/pip" install -q --no-index --no-cache-dir \
        --disable-pip-version-check --root-user-action ignore --find-links "$folder" "$@"
}

# A zip of wheels that pack.sh has not made: all of its wheels in one folder, ours beside them.
install_foreign() {
    local folder=$HOME_DIR/tmp/wheels misfits missing extras=cpu,gateway,mpi path
    mkdir -- "$folder"
    find "$WHEELS" -name '*.whl' -exec mv -t "$folder" -- {} +
    for path in "$DATA"/*.whl; do
        if [[ -f $path ]]; then cp -- "$path" "$folder/"; fi
    done
    misfits=$("$INTERPRETER" "$HERE/lib/foreign.py" misfits "$folder" --python "$PYTHON")
    if [[ -n $misfits ]]; then
        warn "not for Python $PYTHON on Linux, left alone: ${misfits//$'\n'/ }"
    fi
    # torch is what speaks on a GPU.
    if compgen -G "$folder/torch-*.whl" >/dev/null; then extras+=,gpu; fi
    missing=$("$INTERPRETER" "$HERE/lib/foreign.py" missing "$folder" --python "$PYTHON" \
        --extras "$extras")
    [[ -z $missing ]] || die "offline_packages.zip lacks packages that duologue needs: $missing"
    install_wheels "$folder" "duologue[$extras]"
    if compgen -G "$folder/ttsfrd-*-cp3${PYTHON#3.}-*.whl" >/dev/null; then
        install_wheels "$folder" --no-deps ttsfrd ttsfrd_dependency
    fi
}

unpack_models() {
    rm -rf -- "$MODELS" "$MODELS.part"
    mkdir -- "$MODELS.part"
    "$INTERPRETER" "$HERE/lib/packfile.py" unpack "$MODELS_ZIP" "$MODELS.part"
    mv -- "$MODELS.part" "$MODELS"
}

# Takes the bundle of the models, or builds one from their checkpoints. `duologue build` goes on
# where it was broken off and does nothing when all is built.
settle_engines() {
    local found kind place bundle='' lm='' codec=''
    found=$("$INTERPRETER" "$HERE/lib/foreign.py" find "$MODELS")
    while read -r kind place; do
        case $kind in
            bundle) bundle=$place ;;
            lm) lm=$place ;;
            codec) codec=$place ;;
        esac
    done <<<"$found"
    if [[ -n $bundle ]]; then
        check_bundle "$bundle"
        BUNDLE=$bundle
    elif [[ -n $lm && -n $codec ]]; then
        HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 "$ENVIRONMENT/bin/python" -m duologue.cli build \
            --offline --lm "$lm" --codec "$codec" --out "$BUILT_BUNDLE" --name autodl
        BUNDLE=$BUILT_BUNDLE
    else
        die "$(missing_models "$lm" "$codec")"
    fi
    say "bundle: $BUNDLE"
}

# check_bundle DIR: its files are the ones that were built; once per bundle.
check_bundle() {
    local key
    key=$(identity "$1/bundle.json")
    if ! is_done "$STAMPS/bundle" "$key"; then
        "$ENVIRONMENT/bin/python" - "$1" <<'PYTHON'
import sys
from pathlib import Path

from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.errors import DuologueError

try:
    verify_bundle(Path(sys.argv[1]), hashes=True)
except DuologueError as error:
    sys.exit(f"fault: {error}")
PYTHON
        printf '%s' "$key" >"$STAMPS/bundle"
    fi
}

# missing_models LM CODEC: says what a zip of models lacks.
missing_models() {
    local what
    what=$("$INTERPRETER" "$HERE/lib/foreign.py" what "$MODELS_ZIP")
    if [[ $what == cosyvoice ]]; then
        printf 'pretrained_models.zip holds a CosyVoice model, which duologue cannot speak with. '
    fi
    printf 'missing in pretrained_models.zip: '
    if [[ -z $1$2 ]]; then
        printf 'a bundle (a folder with bundle.json), or checkpoints: '
    fi
    if [[ -z $1 ]]; then
        printf 'the language model of MOSS-TTSD (config.json with "channels", and weights); '
    fi
    if [[ -z $2 ]]; then
        printf 'the codec XY-Tokenizer (a yaml with generator_params, and weights); '
    fi
    printf 'or speak with the small model inside the wheel: --bundle default'
}

# ttsfrd writes out numbers when both its package and its resources are here.
settle_frontend() {
    local folder='' found kind place
    if ! has_ttsfrd; then
        say "numbers are written out by wetext (no ttsfrd in the pack)"
        return
    fi
    if [[ -d $MODELS ]]; then
        found=$("$INTERPRETER" "$HERE/lib/foreign.py" find "$MODELS")
        while read -r kind place; do
            if [[ $kind == ttsfrd ]]; then folder=$place; fi
        done <<<"$found"
    fi
    if [[ -z $folder ]]; then
        warn "ttsfrd is installed, and its resources (CosyVoice-ttsfrd/resource.zip) are not in" \
            "pretrained_models.zip: wetext is used"
        return
    fi
    if [[ ! -d $folder/resource ]]; then unpack_resource "$folder"; fi
    TTSFRD_RESOURCE=$folder/resource
    say "numbers are written out by ttsfrd: $TTSFRD_RESOURCE"
}

# has_ttsfrd: the one of CosyVoice; the package index has an unrelated package of that name.
has_ttsfrd() {
    "$ENVIRONMENT/bin/python" -c 'import importlib.util, sys
if importlib.util.find_spec("ttsfrd") is None:
    sys.exit(1)
import ttsfrd
sys.exit(not hasattr(ttsfrd, "TtsFrontendEngine"))'
}

# unpack_resource FOLDER: resource.zip there, which has a folder of the same name in it, or not.
unpack_resource() {
    rm -rf -- "$1/resource.part"
    "$INTERPRETER" -m zipfile -e "$1/resource.zip" "$1/resource.part"
    if [[ -d $1/resource.part/resource ]]; then
        mv -- "$1/resource.part/resource" "$1/resource"
        rm -rf -- "$1/resource.part"
    else
        mv -- "$1/resource.part" "$1/resource"
    fi
}
