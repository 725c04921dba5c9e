#!/usr/bin/env bash
# The whole way of an AutoDL deployment with the real packages: pack, then deploy where there is
# no network, speak over gRPC and HTTP, again with two ranks, and stop. Takes minutes, 2 GB of
# disk and, for the packing, a network. KEEP_PACK=DIR keeps the pack, and uses one that is there.
set -euo pipefail
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
WORK=$(mktemp -d)
DATA="$WORK/data disk"
PACK=${KEEP_PACK:-$WORK/pack}

# Runs itself again in a network namespace of its own, where nothing but the loopback is up.
if [[ ${1:-} != inside ]]; then
    trap 'rm -rf -- "$WORK"' EXIT
    if [[ ! -f $PACK/duologue_pack.txt ]]; then
        PATH="$ROOT/.venv/bin:$PATH" "$ROOT/deploy/autodl/pack.sh" --out "$PACK" \
            --python "$("$ROOT/.venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    fi
    mkdir -p -- "$DATA"
    cp -r -- "$PACK/." "$DATA/"
    unshare --map-root-user --net bash "${BASH_SOURCE[0]}" inside "$DATA"
    exit
fi

export AUTODL_DATA=$2
rmdir -- "$WORK"
began=$SECONDS
python=$AUTODL_DATA/duologue/environment/bin/python
ip link set lo up

speak() {
    local key talk=$AUTODL_DATA/talk.wav
    key=$(<"$AUTODL_DATA/duologue/api_key")
    "$python" - "$key" "$talk" <<'PYTHON'
import json
import sys
import urllib.error
import urllib.request
import wave

from duologue.client import DialogueClient, WavWriter

key, path = sys.argv[1:]
script = "[S1]Tea?[S2]Coffee."
body = {"model": "tts-1", "voice": "alloy", "response_format": "wav", "input": script}


def ask(headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(
        "http://127.0.0.1:6008/v1/audio/speech",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read()


spoken = ask({"Authorization": f"Bearer {key}"})
assert spoken[:4] == b"RIFF" and len(spoken) > 10_000, len(spoken)
print(f"HTTP: {len(spoken)} bytes of WAV")
try:
    ask({})
except urllib.error.HTTPError as error:
    assert error.code == 401, error
else:
    sys.exit("the door spoke without a key")
with DialogueClient("127.0.0.1:8001") as tts, WavWriter(path, tts.sample_rate_hz) as wav:
    for chunk in tts.stream(script):
        wav.write(chunk.samples)
with wave.open(path) as wav:
    seconds = wav.getnframes() / wav.getframerate()
assert seconds > 0.3, seconds
print(f"gRPC: {seconds:.2f} s of speech")
PYTHON
}

bash "$AUTODL_DATA/autodl_deploy.sh"
speak
echo "from two zips to audio on both doors: $((SECONDS - began)) s"
bash "$AUTODL_DATA/status.sh"
bash "$AUTODL_DATA/stop.sh"
bash "$AUTODL_DATA/deploy.sh" --ranks 2 --engine numpy
speak
bash "$AUTODL_DATA/stop.sh"
if pgrep -f "$AUTODL_DATA/duologue/environment" >/dev/null; then
    echo "processes were left behind" >&2
    exit 1
fi
