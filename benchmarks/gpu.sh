#!/bin/sh
# Everything that only a machine with an NVIDIA GPU can measure, in one run:
#
#     sh benchmarks/gpu.sh OUT
#
# 1. check    the fused steps, with their kernels and CUDA graphs, choose the ids of the reference
#             on a CPU (float32; half precision is told), also with weights in int8 and fp8; the run
#             ends here if they do not
# 2. steps    decode steps at the published geometry (1.7 B random weights) at batch 1, 8, 32 and 64
#             with 100 and 1000 rows of context, against the GPU's floor and a plain transformers
#             loop; then with one height for all batches (deterministic), with channel 0 choosing
#             among speech alone, and, at batch 1 and SLOTS, with weights in int8 and in fp8
# 3. codec    the torch codec in four precisions, with its deviation from float32
# 4. streams  1, 4, 16, 32 and 64 concurrent streams through a server of its own, and a dialogue of
#             120 s alone
#
# It needs `pip install 'duologue[gpu,cpu,build,bench]'` with a CUDA build of torch, some 25 GB of
# disk, 40 GB of the GPU's memory (see SLOTS) and half an hour. OUT keeps the models, a JSON document
# and a table per part, and `machine.txt`. What is there already is not measured again.
#
# Settings, by the environment:
#   SLOTS=64            streams at the same time, at most; a T4 takes 16
#   CODEC=path/to/codec the real codec's folder instead of random weights
#   DRY_RUN=1           the same on a CPU with a tiny bundle and few requests: shows within minutes
#                       that all parts run; its figures mean nothing
set -eu
out=${1:?a folder for the results}
slots=${SLOTS:-64}
mkdir -p "$out"

if [ -n "${DRY_RUN:-}" ]; then
    bundle=noise codec_bundle=noise device=cpu dtypes=float32 precisions=float32
    slots=2 batches=1,2 contexts=20 effort="--steps 6 --rounds 1" codec_effort="--batches 1,2 --repeats 1"
    narrow_batches=1
    levels=1,2 load="--requests 2 --warmup 1 --max-seconds 2" long="--workloads en_30s --max-seconds 2"
else
    bundle=$out/bundle codec_bundle=$out/bundle device=cuda
    dtypes=float32,bfloat16,float16 precisions=float32,tf32,bfloat16,float16
    batches=1,8,32,64 contexts=100,1000 effort="--steps 64 --rounds 4"
    narrow_batches=1,$slots
    codec_effort="--batches 1,8,32 --repeats 20"
    levels=1,4,16,32,64 load="--requests 200" long="--workloads en_120s"
    python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "torch sees no GPU here")'
    nvidia-smi > "$out/machine.txt"
fi

# A part that was interrupted leaves no result behind.
part() {
    result=$1
    shift
    [ -e "$out/$result" ] && return 0
    echo "== $result" >&2
    "$@" > "$out/$result.part"
    mv "$out/$result.part" "$out/$result"
    cat "$out/$result"
}

# Options that are several words are meant to be split.
# shellcheck disable=SC2086
steps() {
    duologue bench engine --bundle "$2" --engines torch --batch "${3:-$batches}" \
        --context "${4:-$contexts}" --threads 1 $effort --json "$out/$1.json"
}

# A second bundle $2 over the files of $1, whose torch engine has one more key, or weights in few bits.
variant() {
    [ -e "$out/$2/bundle.json" ] && return 0
    python - "$1" "$out/$2" "$3" <<'PYTHON'
import sys
from pathlib import Path

from duologue.build_engines.narrow_weights import write_narrow_safetensors
from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle

source, target, key = resolve_bundle(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
bundle = Bundle.load(source)
tokens, torch = bundle.tokens, bundle.engines.setdefault("torch", {})
target.mkdir(parents=True, exist_ok=True)
for path in source.iterdir():
    place = target / path.name
    if path.name != "bundle.json" and path.is_file() and not place.exists():
        place.symlink_to(path.resolve())
if key in ("int8", "fp8"):
    narrow = target / f"lm.torch_{key}.safetensors"
    write_narrow_safetensors(bundle.lm, target / "lm.safetensors", narrow, key)
    torch.update(dtype=key, weights=narrow.name)
else:
    speech, end = [tokens.speech_start, tokens.speech_stop], tokens.end_of_speech
    values = {"deterministic": True, "channel0_ids": sorted([speech, [end, end + 1]])}
    torch[key] = values[key]
(target / "bundle.json").write_text(bundle.to_json(), encoding="utf-8")
PYTHON
}

part check.md python -m duologue.benchmarks.engine.device_check --bundle noise --device "$device" \
    --dtypes "$dtypes"
for bits in int8 fp8; do
    variant noise "check_$bits" "$bits"
    part "check_$bits.md" python -m duologue.benchmarks.engine.device_check \
        --bundle "$out/check_$bits" --device "$device" --dtypes "$dtypes"
done

if [ -z "${DRY_RUN:-}" ] && [ ! -d "$bundle" ]; then
    [ -d "$out/lm" ] || python -m duologue.build_engines.full_size_checkpoint "$out/lm"
    codec=${CODEC:-$out/codec}
    [ -d "$codec" ] || python - "$codec" <<'PYTHON'
import sys
from pathlib import Path

from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec

# The published sizes, but for the adapters, which have 4 layers there and 12 here.
sizes = RandomCodecSizes(
    rvq_dim=512,
    d_model=768,
    num_layers=12,
    num_heads=12,
    ffn_dim=3072,
    vocos_dim=512,
    vocos_intermediate_dim=4096,
    vocos_layers=30,
)
write_random_codec(Path(sys.argv[1]), seed=0, sizes=sizes)
PYTHON
    duologue build --lm "$out/lm" --codec "$codec" --engine torch --dtype bf16 --no-parity \
        --max-rows 2048 --max-slots "$slots" --out "$bundle"
    python -m duologue.benchmarks.random_bundle "$bundle"
fi

part steps.md steps steps "$bundle"
variant "$bundle" deterministic deterministic
part steps_deterministic.md steps steps_deterministic "$out/deterministic"
variant "$bundle" speech channel0_ids
part steps_speech.md steps steps_speech "$out/speech"
for bits in int8 fp8; do
    variant "$bundle" "$bits" "$bits"
    part "steps_$bits.md" steps "steps_$bits" "$out/$bits" "$narrow_batches" "${contexts%%,*}"
done
# shellcheck disable=SC2086
part codec.md python -m duologue.benchmarks.engine.codec_speed --bundle "$codec_bundle" \
    --device "$device" --precisions "$precisions" $codec_effort --json "$out/codec.json"
# shellcheck disable=SC2086
part streams.md duologue bench stream --bundle "$bundle" --engine torch --max-slots "$slots" \
    --concurrency "$levels" $load --json "$out/streams.json"
# shellcheck disable=SC2086
part long.md duologue bench offline --bundle "$bundle" --engine torch $long --json "$out/long.json"
