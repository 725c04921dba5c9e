# SPDX-License-Identifier: Apache-2.0
"""Kernels of both ends of a decode step, in Triton: three where plain torch takes a hundred.

The rules are those of `torch_rules`. Tables of the sequences are read where they stand: `NUMBERS`
is the width of a row of `SlotStates.numbers`, and the constants named as `SlotStates.places` say
where its parts begin. Importing this file needs the package `triton`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def begin_kernel(
    places: tl.tensor,
    numbers: tl.tensor,
    first_rows: tl.tensor,
    table: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    hidden: tl.tensor,
    seats: tl.tensor,
    at: tl.tensor,
    lengths: tl.tensor,
    cos_out: tl.tensor,
    sin_out: tl.tensor,
    width: tl.tensor,
    last_seat: tl.tensor,
    spare_row: tl.tensor,
    last_angle: tl.tensor,
    NUMBERS: tl.constexpr,
    ROW: tl.constexpr,
    CHANNELS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Per sequence and block of the hidden size: the sum of its embeddings; once, its places."""
    b = tl.program_id(0).to(tl.int64)
    place = tl.load(places + b)
    state = numbers + place * NUMBERS
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    total = tl.zeros([BLOCK], tl.float32)
    for channel in tl.static_range(CHANNELS):
        row = tl.load(state + ROW + channel) + tl.load(first_rows + channel)
        part = tl.load(table + row * width + column, mask=inside, other=0.0)
        total += part.to(tl.float32)
    tl.store(hidden + b * width + column, total, mask=inside)
    if tl.program_id(1) == 0:
        length = tl.load(state)
        is_active = (tl.load(state + 1) < tl.load(state + 3)) & (tl.load(state + 2) != 0)
        target = tl.where(is_active, length, spare_row)
        tl.store(seats + b, tl.minimum(place, last_seat))
        tl.store(at + b, target)
        tl.store(lengths + b, tl.where(is_active, length + 1, 1))
        half = tl.arange(0, BLOCK_HALF)
        angle = tl.minimum(target, last_angle) * HALF + half
        tl.store(
            cos_out + b * HALF + half, tl.load(cos + angle, mask=half < HALF), mask=half < HALF
        )
        tl.store(
            sin_out + b * HALF + half, tl.load(sin + angle, mask=half < HALF), mask=half < HALF
        )


@triton.jit  # type: ignore[untyped-decorator]
def keys_kernel(
    logits: tl.tensor,
    places: tl.tensor,
    numbers: tl.tensor,
    reals: tl.tensor,
    seen: tl.tensor,
    channel_of: tl.tensor,
    first_columns: tl.tensor,
    delays: tl.tensor,
    keys: tl.tensor,
    width: tl.tensor,
    NUMBERS: tl.constexpr,
    END_COLUMN: tl.constexpr,
    FILL_COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    MAX_DELAY: tl.constexpr,
    HAS_HISTORY: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Per sequence and block of columns: ban, penalise, apply the temperature, and make keys."""
    b = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    place = tl.load(places + b)
    state = numbers + place * NUMBERS
    step = tl.load(state + 1)
    channel = tl.load(channel_of + column, mask=inside, other=0)
    score = tl.load(logits + b * width + column, mask=inside, other=0.0).to(tl.float32)
    fill = tl.load(state + FILL_COLUMNS + channel)
    is_late = step >= tl.load(delays + channel)
    is_fill = (column == fill) & is_late & (channel > 0)
    is_early_end = (column == tl.load(state + END_COLUMN)) & (step < MAX_DELAY)
    score = tl.where(is_fill | is_early_end, float("-inf"), score)
    real = reals + place * 3 * CHANNELS + channel
    if HAS_HISTORY:
        penalty = tl.load(real).to(tl.float32)
        is_seen = tl.load(seen + place * (width + 1) + column, mask=inside, other=0) != 0
        penalised = tl.where(score < 0, score * penalty, tl.div_rn(score, penalty))
        score = tl.where(is_seen, penalised, score)
    score = tl.div_rn(score, tl.load(real + CHANNELS).to(tl.float32))
    # -0 and 0 are equal, so they get the same bits.
    score = tl.where(score == 0.0, 0.0, score)
    bits = score.to(tl.int32, bitcast=True)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
    backwards = 0xFFFFFFFF - (column - tl.load(first_columns + channel)).to(tl.int64)
    tl.store(keys + b * width + column, (ordered << 32) + backwards, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def finish_kernel(
    best: tl.tensor,
    logits: tl.tensor,
    places: tl.tensor,
    numbers: tl.tensor,
    reals: tl.tensor,
    seen: tl.tensor,
    uniforms: tl.tensor,
    tick: tl.tensor,
    outcome: tl.tensor,
    ids: tl.tensor,
    first_columns: tl.tensor,
    first_rows: tl.tensor,
    column_of: tl.tensor,
    delays: tl.tensor,
    width: tl.tensor,
    NUMBERS: tl.constexpr,
    ROW: tl.constexpr,
    SPEECH: tl.constexpr,
    FILLS: tl.constexpr,
    TOP_K: tl.constexpr,
    DOES_SAMPLE: tl.constexpr,
    FORCED: tl.constexpr,
    CHANNELS: tl.constexpr,
    DEPTH: tl.constexpr,
    MAX_DELAY: tl.constexpr,
    HAS_HISTORY: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CANDIDATES: tl.constexpr,
) -> None:
    """Per sequence: draw from the best keys of each channel, and step through the delay pattern."""
    b, batch = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    c, j = tl.arange(0, BLOCK_CHANNELS), tl.arange(0, CANDIDATES)
    has_c = c < CHANNELS
    place = tl.load(places + b)
    state = numbers + place * NUMBERS
    first_column = tl.load(first_columns + c, mask=has_c, other=0)
    # The scores of each channel, best first; no key is as low as the padding.
    lowest = -0x8000000000000000
    at_key = (b * CHANNELS + c)[:, None] * CANDIDATES + j[None, :]
    key = tl.load(best + at_key, mask=has_c[:, None], other=lowest)
    ordered = (key >> 32).to(tl.int32)
    score = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    score = tl.where(key == lowest, float("-inf"), score)
    column = tl.where(key == lowest, 0, 0xFFFFFFFF - (key & 0xFFFFFFFF))
    # Top-k, with all that tie with the k-th best.
    top_k = tl.load(state + TOP_K + c, mask=has_c, other=1)
    worst = tl.minimum(tl.maximum(top_k, 1), CANDIDATES) - 1
    bound = tl.sum(tl.where(j[None, :] == worst[:, None], score, 0.0), 1)
    score = tl.where(score < bound[:, None], float("-inf"), score)
    # Top-p: an id goes when those before it hold p of all.
    wide = score.to(tl.float64)
    weight = tl.exp(wide - tl.max(wide, 1)[:, None])
    mass = tl.cumsum(weight, 1)
    total = tl.sum(tl.where(j[None, :] == CANDIDATES - 1, mass, 0.0), 1)
    top_p = tl.load(reals + place * 3 * CHANNELS + 2 * CHANNELS + c, mask=has_c, other=1.0)
    is_over = mass - weight >= (top_p * total)[:, None]
    is_dropped = is_over & (j[None, :] > 0) & (top_p < 1.0)[:, None]
    score = tl.where(is_dropped, float("-inf"), score)
    # Draw.
    mass = tl.cumsum(tl.where(is_dropped, 0.0, weight), 1)
    total = tl.sum(tl.where(j[None, :] == CANDIDATES - 1, mass, 0.0), 1)
    now = tl.load(tick)
    uniform = tl.load(uniforms + (now * batch + b) * CHANNELS + c, mask=has_c, other=0.0)
    drawn = tl.sum((mass <= (uniform * total)[:, None]).to(tl.int32), 1)
    last = tl.sum((score > float("-inf")).to(tl.int32), 1) - 1
    does_sample = tl.load(state + DOES_SAMPLE + c, mask=has_c, other=0)
    drawn = tl.maximum(tl.minimum(drawn, last), 0) * (does_sample != 0).to(tl.int32)
    column = tl.sum(tl.where(j[None, :] == drawn[:, None], column, 0), 1)
    chosen = tl.load(ids + first_column + column, mask=has_c, other=0)
    first = tl.load(logits + b * width + first_column, mask=has_c, other=0.0).to(tl.float32)
    is_wrong = (first != first) | (first == float("inf"))
    is_sound = tl.sum(is_wrong.to(tl.int32), 0) == 0
    at_outcome = (now * batch + b) * (CHANNELS + 1)
    tl.store(outcome + at_outcome + c, chosen, mask=has_c)
    tl.store(outcome + at_outcome + CHANNELS, is_sound.to(tl.int64))
    # The delay pattern.
    length, step = tl.load(state), tl.load(state + 1)
    left, limit = tl.load(state + 2), tl.load(state + 3)
    is_active = (step < limit) & (left != 0)
    # The same once per channel.
    takes_row = has_c & (step + 0 * c < limit) & (left + 0 * c != 0)
    spoken = tl.sum(tl.where(c == 0, chosen, 0), 0)
    is_speech = (spoken >= tl.load(state + SPEECH)) & (spoken < tl.load(state + SPEECH + 1))
    is_trigger = (left < 0) & (is_speech == 0)
    left = tl.where(is_trigger, MAX_DELAY, left)
    delay = tl.load(delays + c, mask=has_c, other=0)
    depth = tl.minimum(step, DEPTH - 1)
    forced = tl.load(state + FORCED + depth * CHANNELS + c, mask=has_c, other=0)
    row = tl.where(delay > step, forced, chosen)
    is_draining = (left >= 0) & (is_trigger == 0)
    fill = tl.load(state + FILLS + c, mask=has_c, other=0)
    row = tl.where((delay <= MAX_DELAY - left) & is_draining, fill, row)
    left = tl.where(left > 0, left - 1, left)
    tl.store(state, length + 1, mask=is_active)
    tl.store(state + 1, step + 1, mask=is_active)
    tl.store(state + 2, left, mask=is_active)
    # Whoever has no numbers rests from now on.
    tl.store(state + 3, tl.where(is_sound, limit, 0), mask=is_active)
    tl.store(state + ROW + c, row, mask=takes_row)
    if HAS_HISTORY:
        first_row = tl.load(first_rows + c, mask=has_c, other=0)
        noted = tl.load(column_of + first_row + row, mask=has_c, other=0)
        noted = tl.where(is_active, noted, width)
        tl.store(
            seen + place * (width + 1) + noted, tl.full([BLOCK_CHANNELS], 1, tl.uint8), mask=has_c
        )
