#!/bin/sh
# Steps of the published geometry (1.7 B random weights) in int8 and int4 against the memory's
# bandwidth, and on which machines that means real time. Takes some 12 GB of disk, 12 GB of memory
# and a quarter of an hour on two cores.
#
#     sh benchmarks/full_size.sh OUT
set -eu
out=${1:?a folder for the results}
mkdir -p "$out"
[ -d "$out/lm" ] || python -m duologue.build_engines.full_size_checkpoint "$out/lm"
[ -d "$out/codec" ] || python - "$out/codec" <<'PYTHON'
import sys
from pathlib import Path

from duologue.build_engines.random_checkpoint_codec import write_random_codec

write_random_codec(Path(sys.argv[1]), seed=0)
PYTHON
for dtype in int8 int4; do
    duologue build --lm "$out/lm" --codec "$out/codec" --engine onnx --engine torch --dtype "$dtype" \
        --no-parity --max-rows 512 --max-slots 1 --out "$out/$dtype"
    python -m duologue.benchmarks.random_bundle "$out/$dtype"
    duologue bench engine --bundle "$out/$dtype" --engines onnx --batch 1 --context 100 \
        --steps 8 --rounds 2 --json "$out/$dtype.json" --md "$out/$dtype.md"
done
python -m duologue.benchmarks.engine.projection "$out/int8.json" "$out/int4.json" \
    | tee "$out/projection.md"
