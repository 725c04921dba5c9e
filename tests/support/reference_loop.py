"""MOSS-TTSD v0.7 written down a second time, as plainly as its rules read.

No cache, no slots, no windows of ours: whole batches with padding on the left, the whole prefix
read anew in every step, all rows on one counter. It shares nothing with the engines but the
codec's network, which has recordings of its own to answer to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3Model

from duologue.build_engines.codec_checkpoint import load_codec_checkpoint
from duologue.runtime.codec.xy.tokenizer import XyTokenizer

SYSTEM = (
    "You are a speech synthesizer that generates natural, realistic, and human-like "
    "conversational audio from dialogue text."
)
END_OF_SPEECH = "<|end_of_speech|>"


@dataclass(frozen=True)
class Item:
    """One line of a batch.

    Attributes:
        text: transcripts and script, joined as the reference joins them.
        voice: [N] at the codec's input rate, or None.
    """

    text: str
    voice: torch.Tensor | None = None


class PlainModel:
    """A checkpoint folder and a codec folder."""

    def __init__(self, lm_dir: Path, codec_dir: Path) -> None:
        self.config = json.loads((lm_dir / "config.json").read_text())
        self.max_length = json.loads((lm_dir / "generation_config.json").read_text())["max_length"]
        self.tokenizer = Tokenizer.from_file(str(lm_dir / "tokenizer.json"))
        weights = safetensors.torch.load_file(lm_dir / "model.safetensors")
        self.channels = self.config["channels"]
        self.tables = [
            weights[f"model.embedding_list.{channel}.weight"] for channel in range(self.channels)
        ]
        self.body = _body(self.config, weights)
        checkpoint = load_codec_checkpoint(
            codec_dir / "xy_tokenizer.ckpt", codec_dir / "config.yaml"
        )
        self.codec_config = checkpoint.config
        self.codec = XyTokenizer(checkpoint.parameters).eval()
        self.codec.load_state_dict(checkpoint.tensors)

    @torch.inference_mode()
    def speak(self, items: list[Item]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Greedy codes [T, K] and samples [N] of each item."""
        grid, mask = self._pad([self._delayed(item) for item in items])
        base = grid.shape[1] - self.channels + 1
        written = self._generate(grid, mask)[:, base:]
        codes = [self._undelay(rows) for rows in written]
        return [
            (frames.numpy(), self._decode(frames, item.voice).numpy())
            for frames, item in zip(codes, items, strict=True)
        ]

    # The prompt.

    def _delayed(self, item: Item) -> torch.Tensor:
        text = (
            f"<|begin_of_style|>{SYSTEM}<|end_of_style|>\n<|begin_of_text|>{item.text}"
            "<|end_of_text|>\n<|begin_of_speech|>"
        )
        text = text.replace("[S1]", "<speaker1>").replace("[S2]", "<speaker2>")
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        rows = torch.full((len(ids), self.channels), self.config["speech_pad_token"])
        rows[:, 0] = torch.tensor(ids)
        if item.voice is not None:
            codes = self._encode(item.voice).T.clone()
            codes[:, 0] += self.config["speech_token_range"][0]
            rows = torch.cat([rows, codes])
        delayed = self._fill(len(rows) + self.channels - 1)
        for channel in range(self.channels):
            delayed[channel : channel + len(rows), channel] = rows[:, channel]
        return delayed

    def _fill(self, num_rows: int) -> torch.Tensor:
        rows = torch.full((num_rows, self.channels), self.config["speech_pad_token"])
        rows[:, 0] = self.config["eos_token_id"]
        return rows

    def _pad(self, grids: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(grid) for grid in grids)
        padded = [torch.cat([self._fill(longest - len(grid)), grid]) for grid in grids]
        lengths = torch.tensor([len(grid) for grid in grids])
        mask = torch.arange(longest) >= longest - lengths[:, None]
        return torch.stack(padded), mask.long()

    # The language model.

    def _logits(self, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        hidden = sum(F.embedding(ids[..., c], table) for c, table in enumerate(self.tables))
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        out = self.body(inputs_embeds=hidden, attention_mask=mask, position_ids=positions)
        last = out.last_hidden_state[:, -1]
        return [(last @ table.T).float() for table in self.tables]

    def _generate(self, grid: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        start, stop = self.config["speech_token_range"]
        pad, eos = self.config["speech_pad_token"], self.config["eos_token_id"]
        end, tail = self.tokenizer.token_to_id(END_OF_SPEECH), self.channels - 1
        base = grid.shape[1] - tail
        ids, mask = grid[:, :base], mask[:, :base]
        need = torch.full((len(grid),), -1)
        alive = torch.ones(len(grid), dtype=torch.bool)
        step = 0
        while alive.any():
            logits = self._logits(ids, mask)
            for channel in range(1, self.channels):
                if step >= channel:
                    logits[channel][:, pad] = -torch.inf
            if step < tail:
                logits[0][:, end] = -torch.inf
            row = torch.stack([scores.argmax(-1) for scores in logits], dim=1)
            is_text = (row[:, 0] < start) | (row[:, 0] >= stop)
            need[(need < 0) & is_text] = tail
            if step < tail:
                row[:, step + 1 :] = grid[:, base + step, step + 1 :]
            for place in range(len(grid)):
                if 0 < need[place] < tail:
                    row[place, 0] = eos
                    row[place, 1 : self.channels - int(need[place])] = pad
                if not alive[place]:
                    row[place, 0], row[place, 1:] = eos, pad
            ids = torch.cat([ids, row[:, None]], dim=1)
            mask = torch.cat([mask, torch.ones(len(grid), 1, dtype=torch.long)], dim=1)
            need[need > 0] -= 1
            stops = (row[:, 0] == eos) | (need == 0) | (ids.shape[1] >= self.max_length)
            alive = (alive & ~stops) | (need > 0)
            step += 1
        return ids

    def _undelay(self, rows: torch.Tensor) -> torch.Tensor:
        num_frames = len(rows) - self.channels + 1
        codes = torch.stack([rows[c : c + num_frames, c] for c in range(self.channels)], dim=1)
        codes[:, 0] -= self.config["speech_token_range"][0]
        spoken = (codes[:, 1] != self.config["speech_pad_token"]).nonzero()
        return codes[: int(spoken.max()) + 1] if len(spoken) else codes[:0]

    # The codec.

    def _encode(self, samples: torch.Tensor) -> torch.Tensor:
        """Codes [K, T] of a clip of at most 30 s."""
        window = torch.zeros(1, 30 * self.codec_config.input_rate_hz)
        window[0, : len(samples)] = samples
        codes = self.codec.encode(window, torch.tensor([len(samples)]))[0]
        return codes[:, : len(samples) // self.codec_config.input_samples_per_frame]

    def _decode(self, codes: torch.Tensor, voice: torch.Tensor | None) -> torch.Tensor:
        """Samples of codes [T, K], T <= 375 without a voice."""
        width, rate_hz = self.codec_config.samples_per_frame, self.codec_config.sample_rate_hz
        if voice is None:
            return self.codec.decode(codes.T[None])[0]
        exact = torch.zeros(20 * self.codec_config.input_rate_hz)
        exact[: len(voice)] = voice[: len(exact)]
        context, total, audio = self._encode(exact), len(codes), torch.zeros(0)
        for first in range(0, total, 85):
            window = codes[first : first + 125].T
            length = window.shape[1]
            keep = [0 if first == 0 else 20, min(105, length)]
            if total - first < 105 and first:
                keep[1] = length
            if keep[0] >= keep[1]:
                continue
            samples = self.codec.decode(torch.cat([context, window], dim=1)[None])[0]
            samples = samples[context.shape[1] * width :]
            margin = rate_hz // 10 if first + 125 < total else 0
            segment = samples[keep[0] * width : keep[1] * width + margin]
            fade = min(rate_hz // 10, len(audio), len(segment))
            ramp = torch.linspace(0, 1, fade)
            joint = audio[len(audio) - fade :] * (1 - ramp) + segment[:fade] * ramp
            audio = torch.cat([audio[: len(audio) - fade], joint, segment[fade:]])
        return audio


def _body(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> Qwen3Model:
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "max_position_embeddings",
    )
    rope = {"rope_type": "default", "rope_theta": config["rope_theta"]}
    settings = Qwen3Config(
        **{name: config[name] for name in names},
        rope_parameters=rope,
        attn_implementation="eager",
    )
    body = Qwen3Model(settings).eval()
    prefix = "model.language_model."
    state = {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}
    state.setdefault("embed_tokens.weight", body.embed_tokens.weight)
    body.load_state_dict(state)
    return body
