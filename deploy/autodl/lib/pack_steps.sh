# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # the files share their variables
# The steps of pack.sh. Variables in capitals are the options; WORK is a folder of this run alone.

# Which releases of torch on the package index were built for which CUDA.
declare -rA TORCH_OF_CUDA=(
    [12.4]='torch>=2.6,<2.7'
    [12.6]='torch>=2.7,<2.8'
    [12.8]='torch>=2.8,<2.11'
    [13.0]='torch>=2.11,<2.14'
)
# The Triton wheel is the one that asks most of the system: manylinux_2_35 is Ubuntu 22.04.
readonly GLIBC_MINOR=35

set_pack_defaults() {
    SOURCE=$(cd -- "$HERE/../.." && pwd)
    PYTHON=3.11 CUDA=cpu BUNDLE='' LM='' CODEC='' TTSFRD='' WHEEL='' INDEX_URL=''
    OUT=$SOURCE/out/autodl
    FIND_LINKS=()
    NO_INDEX=0 NO_MODELS=0 DRY_RUN=0
}

check_pack_options() {
    [[ $(uname -sm) == 'Linux x86_64' ]] ||
        die "this machine is $(uname -sm); the wheels are chosen for Linux x86_64: pack there"
    [[ $PYTHON =~ ^3\.(10|11|12)$ ]] ||
        die "--python is $PYTHON; the Triton wheel allows 3.10, 3.11 and 3.12"
    [[ $CUDA == cpu || -v TORCH_OF_CUDA[$CUDA] ]] ||
        die "--cuda is $CUDA; allowed: cpu ${!TORCH_OF_CUDA[*]}"
    [[ (-n $LM && -n $CODEC) || -z $LM$CODEC ]] || die "--lm and --codec go together"
    if [[ -n $LM ]]; then
        [[ -z $BUNDLE ]] || die "either --bundle, or --lm and --codec"
        [[ $CUDA != cpu ]] ||
            die "engines are built with torch, which a CPU pack leaves out: build the bundle here" \
                "(duologue build --lm ... --codec ... --out DIR) and pack it with --bundle DIR"
        [[ -d $LM ]] || die "--lm $LM is no folder"
        [[ -d $CODEC ]] || die "--codec $CODEC is no folder"
    fi
    BUNDLE=${BUNDLE:-$SOURCE/models/default}
    [[ -n $LM || -f $BUNDLE/bundle.json ]] || die "--bundle $BUNDLE has no bundle.json"
    if [[ -n $TTSFRD ]]; then check_ttsfrd; fi
    mkdir -p -- "$OUT"
    OUT=$(cd -- "$OUT" && pwd)
    WORK=$OUT/.work
    rm -rf -- "$WORK"
    mkdir -- "$WORK" "$WORK/wheels"
}

check_ttsfrd() {
    local tag=cp3${PYTHON#3.}
    compgen -G "$TTSFRD/ttsfrd-*-$tag-*.whl" >/dev/null ||
        die "$TTSFRD has no wheel ttsfrd-*-$tag-*.whl; published are some Pythons only (3.10 is" \
            "one of them): choose --python to match, or leave --ttsfrd out"
    compgen -G "$TTSFRD/ttsfrd_dependency-*.whl" >/dev/null ||
        die "$TTSFRD has no wheel ttsfrd_dependency-*.whl"
    [[ -f $TTSFRD/resource.zip || -d $TTSFRD/resource ]] || die "$TTSFRD has no resource.zip"
}

# The resolver is uv: the one on PATH, else one in an environment of its own beside the pack.
prepare_tools() {
    command -v python3 >/dev/null || die "python3 is missing"
    UV=$(command -v uv || true)
    if [[ -z $UV ]]; then
        local tools=$OUT/.tools
        [[ -x $tools/bin/uv ]] || {
            python3 -m venv "$tools"
            "$tools/bin/python" -m pip install -q ${INDEX_URL:+--index-url "$INDEX_URL"} uv
        }
        UV=$tools/bin/uv
    fi
    python3 -m pip --version >/dev/null || die "python3 has no pip, which downloads the wheels"
    INDEX_OPTIONS=()
    local folder
    for folder in "${FIND_LINKS[@]}"; do
        [[ -d $folder ]] || die "--find-links $folder is no folder"
        INDEX_OPTIONS+=(--find-links "$folder")
    done
    if ((NO_INDEX)); then
        INDEX_OPTIONS+=(--no-index)
    elif [[ -n $INDEX_URL ]]; then
        INDEX_OPTIONS+=(--index-url "$INDEX_URL")
    fi
}

build_wheel() {
    if [[ -n $WHEEL ]]; then
        [[ -f $WHEEL ]] || die "--wheel $WHEEL is no file"
        cp -- "$WHEEL" "$WORK/wheels/"
    else
        # A copy: a build leaves folders behind in the tree that it builds. Where --out lies in the
        # tree, the copy must not hold itself.
        mkdir -- "$WORK/source"
        tar -C "$SOURCE" -c --exclude=./.venv --exclude=./.git --exclude=./build --exclude=./out \
            --exclude=.work --exclude=.tools --exclude='*.egg-info' --exclude=__pycache__ \
            --exclude='./.*_cache' . |
            tar -C "$WORK/source" -x
        "$UV" build -q --wheel --out-dir "$WORK/wheels" "${INDEX_OPTIONS[@]}" "$WORK/source"
        rm -rf -- "$WORK/source" "$WORK/wheels/.gitignore"
    fi
    OWN_WHEEL=$(compgen -G "$WORK/wheels/duologue-*.whl") || die "no wheel of duologue was made"
}

# What the instance installs, see `project.optional-dependencies` of pyproject.toml.
wanted_extras() {
    local extras=cpu,gateway,mpi
    [[ $CUDA == cpu ]] || extras+=,gpu
    [[ -z $LM ]] || extras+=,build
    printf '%s' "$extras"
}

resolve_lock() {
    {
        printf 'duologue[%s] @ file://%s\n' "$(wanted_extras)" "$(uri_path "$OWN_WHEEL")"
        # The instance's own pip may be of any age, or absent.
        printf 'pip>=22.3\n'
        [[ $CUDA == cpu ]] || printf '%s\n' "${TORCH_OF_CUDA[$CUDA]}"
    } >"$WORK/requirements.in"
    "$UV" pip compile -q --no-config --no-header --no-annotate --generate-hashes \
        --only-binary :all: --python-version "$PYTHON" \
        --python-platform "x86_64-manylinux_2_$GLIBC_MINOR" "${INDEX_OPTIONS[@]}" \
        -o "$WORK/resolved.txt" "$WORK/requirements.in" >/dev/null
    # Our own wheel is there already and stands in the lock by its path.
    grep -v '^duologue' "$WORK/resolved.txt" >"$WORK/download.txt"
    check_cuda_of_lock
}

# A space and other signs that a URL cannot hold.
uri_path() { python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1]))' "$1"; }

check_cuda_of_lock() {
    [[ $CUDA == cpu ]] && return
    local runtime
    runtime=$(grep -oE '^nvidia-cuda-runtime(-cu[0-9]+)?==[0-9.]+' "$WORK/download.txt") ||
        die "the lock has no CUDA runtime although --cuda is $CUDA"
    [[ ${runtime##*==} == "$CUDA".* ]] ||
        die "the lock's CUDA runtime is ${runtime##*==}, and --cuda asks for $CUDA"
}

print_lock() {
    say "lock for Python $PYTHON, CUDA $CUDA, glibc 2.$GLIBC_MINOR or newer:"
    grep -oE '^[A-Za-z0-9][A-Za-z0-9._-]*==[^ ;\\]+' "$WORK/download.txt"
    rm -rf -- "$WORK"
}

download_wheels() {
    local platforms=() minor
    for ((minor = 5; minor <= GLIBC_MINOR; minor++)); do
        platforms+=(--platform "manylinux_2_${minor}_x86_64")
    done
    platforms+=(--platform manylinux1_x86_64 --platform manylinux2010_x86_64)
    platforms+=(--platform manylinux2014_x86_64)
    python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --implementation cp --python-version "$PYTHON" "${platforms[@]}" \
        "${INDEX_OPTIONS[@]}" -d "$WORK/wheels" -r "$WORK/download.txt"
    if [[ -n $TTSFRD ]]; then
        cp -- "$TTSFRD"/ttsfrd-*-"cp3${PYTHON#3.}"-*.whl "$WORK/wheels/"
        cp -- "$TTSFRD"/ttsfrd_dependency-*.whl "$WORK/wheels/"
    fi
}

write_packages() {
    local folder=$WORK/offline_packages
    mkdir -- "$folder"
    mv -- "$WORK/wheels" "$folder/wheels"
    python3 "$HERE/lib/packfile.py" lock "$WORK/download.txt" "$folder/wheels" \
        >"$folder/requirements.lock"
    INSTALLED_BYTES=$(python3 "$HERE/lib/packfile.py" installed "$folder/wheels")
    pack_facts >"$folder/pack.txt"
    python3 "$HERE/lib/packfile.py" write "$OUT/offline_packages.zip" "$folder"
}

pack_facts() {
    printf 'duologue_pack 1\npython %s\ncuda %s\nglibc 2.%s\ninstalled_bytes %s\n' \
        "$PYTHON" "$CUDA" "$GLIBC_MINOR" "$INSTALLED_BYTES"
}

write_models() {
    local folder=$WORK/pretrained_models
    mkdir -- "$folder"
    if [[ -n $LM ]]; then
        cp -rL -- "$LM" "$folder/lm"
        cp -rL -- "$CODEC" "$folder/codec"
    else
        cp -rL -- "$BUNDLE" "$folder/bundle"
    fi
    if [[ -n $TTSFRD ]]; then
        mkdir -- "$folder/CosyVoice-ttsfrd"
        cp -rL -- "$TTSFRD"/resource* "$folder/CosyVoice-ttsfrd/"
    fi
    python3 "$HERE/lib/packfile.py" write "$OUT/pretrained_models.zip" "$folder"
}

write_pack_file() {
    local name
    {
        pack_facts
        for name in offline_packages.zip pretrained_models.zip; do
            if [[ $name == pretrained_models.zip ]] && ((NO_MODELS)); then continue; fi
            printf 'file %s %s %s\n' "$(file_sha256 "$OUT/$name")" "$(file_bytes "$OUT/$name")" \
                "$name"
        done
    } >"$WORK/duologue_pack.txt"
    mv -- "$WORK/duologue_pack.txt" "$OUT/duologue_pack.txt"
    local script
    for script in deploy.sh autodl_deploy.sh status.sh stop.sh; do
        cp -- "$HERE/$script" "$OUT/"
    done
    rm -rf -- "${OUT:?}/lib" "$WORK"
    mkdir -- "$OUT/lib"
    cp -- "$HERE"/lib/*.sh "$HERE"/lib/*.py "$OUT/lib/"
    du -sh -- "$OUT"/*.zip
}
