# SPDX-License-Identifier: Apache-2.0
"""The tensor contract of the streaming door: the only file that both sides of it share.

Every `config.pbtxt` of the model repository is held to this page by a test; the prose is in
`model_repository/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

STREAMING_MODEL = "dialogue_tts"
ENSEMBLE_MODEL = "dialogue_ensemble"
ENCODER_MODEL = "codec_encoder"
DECODER_MODEL = "codec_decoder"
FRONTEND_MODEL = "script_frontend"
WHOLE_MODEL = "dialogue_decoder"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor at the door.

    Attributes:
        name: as on the wire.
        dtype: Triton's name of the type, e.g. "INT16", "BYTES".
        shape: -1 where any size goes.
        optional: an input that may be left out.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    optional: bool = False


# Requests of `dialogue_tts`. A request carries SCRIPT, or, as an acknowledgement of audio that
# was taken, ACK_STREAM_ID with ACK_SAMPLES and nothing else.
SCRIPT = TensorSpec("SCRIPT", "BYTES", (1,), optional=True)
VOICE_IDS = TensorSpec("VOICE_IDS", "BYTES", (-1,), optional=True)
VOICE_CODES = TensorSpec("VOICE_CODES", "INT32", (-1, -1), optional=True)
VOICE_LENGTHS = TensorSpec("VOICE_LENGTHS", "INT32", (-1,), optional=True)
VOICE_TRANSCRIPTS = TensorSpec("VOICE_TRANSCRIPTS", "BYTES", (-1,), optional=True)
SEED = TensorSpec("SEED", "INT64", (1,), optional=True)
SAMPLING = TensorSpec("SAMPLING", "BYTES", (1,), optional=True)
NORMALIZATION = TensorSpec("NORMALIZATION", "BYTES", (1,), optional=True)
TEXT_FRONTEND = TensorSpec("TEXT_FRONTEND", "BYTES", (1,), optional=True)
MODE = TensorSpec("MODE", "BYTES", (1,), optional=True)
MAX_FRAMES = TensorSpec("MAX_FRAMES", "INT32", (1,), optional=True)
DEADLINE_S = TensorSpec("DEADLINE_S", "FP32", (1,), optional=True)
MAX_AHEAD_S = TensorSpec("MAX_AHEAD_S", "FP32", (1,), optional=True)
ACK_STREAM_ID = TensorSpec("ACK_STREAM_ID", "BYTES", (1,), optional=True)
ACK_SAMPLES = TensorSpec("ACK_SAMPLES", "INT64", (1,), optional=True)

REQUEST_TENSORS = (
    SCRIPT,
    VOICE_IDS,
    VOICE_CODES,
    VOICE_LENGTHS,
    VOICE_TRANSCRIPTS,
    SEED,
    SAMPLING,
    NORMALIZATION,
    TEXT_FRONTEND,
    MODE,
    MAX_FRAMES,
    DEADLINE_S,
    MAX_AHEAD_S,
    ACK_STREAM_ID,
    ACK_SAMPLES,
)

# Responses of `dialogue_tts`, one per chunk. TURN_TIMES_S, TURN_SPEAKERS and FINISH_REASON
# come with the last chunk only.
PCM = TensorSpec("PCM", "INT16", (-1,))
SAMPLE_RATE_HZ = TensorSpec("SAMPLE_RATE_HZ", "INT32", (1,))
CHUNK_IDX = TensorSpec("CHUNK_IDX", "INT32", (1,))
FIRST_SAMPLE = TensorSpec("FIRST_SAMPLE", "INT64", (1,))
TURN = TensorSpec("TURN", "INT32", (1,))
SPEAKER = TensorSpec("SPEAKER", "INT32", (1,))
TURN_TIMING = TensorSpec("TURN_TIMING", "BYTES", (1,))
STREAM_ID = TensorSpec("STREAM_ID", "BYTES", (1,))
SEED_USED = TensorSpec("SEED_USED", "INT64", (1,))
IS_LAST = TensorSpec("IS_LAST", "BOOL", (1,))
FINISH_REASON = TensorSpec("FINISH_REASON", "BYTES", (1,))
TURN_TIMES_S = TensorSpec("TURN_TIMES_S", "FP32", (-1, 2))
TURN_SPEAKERS = TensorSpec("TURN_SPEAKERS", "INT32", (-1,))

RESPONSE_TENSORS = (
    PCM,
    SAMPLE_RATE_HZ,
    CHUNK_IDX,
    FIRST_SAMPLE,
    TURN,
    SPEAKER,
    TURN_TIMING,
    STREAM_ID,
    SEED_USED,
    IS_LAST,
    FINISH_REASON,
    TURN_TIMES_S,
    TURN_SPEAKERS,
)

# The codec models; a leading batch dimension is added by Triton.
CODEC_SAMPLES = TensorSpec("SAMPLES", "FP32", (-1,))
CODEC_CODES = TensorSpec("CODES", "INT32", (-1, -1))

# Windows that `codec_decoder` takes in one request: the max_batch_size of its config.
MAX_DECODER_BATCH = 64

# `dialogue_ensemble` and `dialogue_decoder` behind it take a whole request and give a whole
# answer: no pacing, no acknowledgement, no chunks.
WHOLE_REQUEST_TENSORS = tuple(
    spec for spec in REQUEST_TENSORS if spec not in (MAX_AHEAD_S, ACK_STREAM_ID, ACK_SAMPLES)
)
WHOLE_RESPONSE_TENSORS = (
    PCM,
    SAMPLE_RATE_HZ,
    SEED_USED,
    FINISH_REASON,
    TURN_TIMES_S,
    TURN_SPEAKERS,
)

# Begins the line of the server's log in which `dialogue_tts` says what it serves.
ANNOUNCEMENT = "duologue serves"
CODEC_ANNOUNCEMENT = "duologue decodes"

# An error's type travels in front of its message, because a stream carries no status code.
ERROR_SEPARATOR = ": "
