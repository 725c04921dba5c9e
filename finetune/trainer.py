# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's Trainer, with our batches, our checkpoints and the losses of the channels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

from duologue.finetune.batching import LengthBatches
from duologue.finetune.collate import Collator
from duologue.finetune.errors import TrainingError
from duologue.finetune.model import TrainableLm
from duologue.finetune.model_files import save_checkpoint, save_probes
from duologue.finetune.row_source import RowSource
from duologue.finetune.rows import IGNORED


class EpochLoader(DataLoader[Any]):
    """A loader whose batches differ from epoch to epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of an epoch; the Trainer calls it."""
        sampler = self.batch_sampler
        assert isinstance(sampler, LengthBatches)
        sampler.set_epoch(epoch)


class DialogueTrainer(Trainer):
    """Trains a `TrainableLm`, adapted or not.

    Args:
        model: what is trained.
        args: of the Trainer.
        collator: makes batches.
        train_rows, eval_rows: examples; None leaves evaluation out.
        max_rows_per_batch: see `LmSettings`.
        optimizer: None takes the one that `args` names.
        base_dir: checkpoint folder whose configuration and tokenizer are copied to every
            checkpoint.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        args: TrainingArguments,
        *,
        collator: Collator,
        train_rows: RowSource,
        eval_rows: RowSource | None,
        max_rows_per_batch: int | None,
        base_dir: Path,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=train_rows,
            eval_dataset=eval_rows,
            optimizers=(optimizer, None),
        )
        self._train_rows, self._eval_rows = train_rows, eval_rows
        self._collator, self._max_rows_per_batch = collator, max_rows_per_batch
        self._base_dir = base_dir
        self._channel_losses: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        self._voice_losses: dict[bool, list[torch.Tensor]] = {True: [], False: []}

    def get_train_dataloader(self) -> EpochLoader:
        """Batches of similar length, shared out to the processes."""
        return self._loader(self._train_rows, self.args.train_batch_size, shuffle=True)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> EpochLoader:
        """The evaluation set in the order of length."""
        rows = self._eval_rows if eval_dataset is None else eval_dataset
        assert rows is not None
        return self._loader(rows, self.args.eval_batch_size, shuffle=False)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The weighted loss of a batch.

        Raises:
            TrainingError: the loss is no number, or the batch has no label.
        """
        known = {"voices": inputs["voices"]} if "voices" in inputs else {}
        outputs = model(input_ids=inputs["input_ids"], labels=inputs["labels"], **known)
        loss = outputs["loss"]
        if not math.isfinite(float(loss.detach())):
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.state.global_step}: lower the "
                "learning rate, or remove the newest checkpoints and resume"
            )
        if not bool((inputs["labels"] != IGNORED).any()):
            raise TrainingError(
                f"no label is left in a batch of {list(inputs['labels'].shape[:2])} rows: is "
                f"max_length, {self._collator.max_length}, shorter than the texts?"
            )
        self._channel_losses[model.training].append(outputs["channel_losses"])
        if "voice_loss" in outputs:
            self._voice_losses[model.training].append(outputs["voice_loss"])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the losses of the channels, and of the probes, beside the total."""
        is_training = "loss" in logs
        if is_training or "eval_loss" in logs:
            prefix = "" if is_training else "eval_"
            kept = self._channel_losses[is_training]
            means = torch.stack(kept).mean(dim=0).tolist() if kept else []
            logs.update({f"{prefix}loss_channel_{c}": mean for c, mean in enumerate(means)})
            kept.clear()
            voice_losses = self._voice_losses[is_training]
            if voice_losses:
                logs[f"{prefix}voice_loss"] = float(torch.stack(voice_losses).mean())
                voice_losses.clear()
        super().log(logs, start_time)

    def _loader(self, rows: RowSource, batch_size: int, *, shuffle: bool) -> EpochLoader:
        by_rows, collator = self._max_rows_per_batch, self._collator
        lengths = np.minimum(rows.lengths + collator.input_delay.max_delay, collator.max_length)
        batches = LengthBatches(
            lengths,
            max_rows=by_rows or int(lengths.max()) * batch_size,
            max_examples=len(lengths) if by_rows else batch_size,
            seed=self.args.seed,
            groups=rows.groups,
            rank=self.args.process_index,
            num_ranks=self.args.world_size,
            shuffle=shuffle,
        )
        return EpochLoader(
            cast("Dataset[Any]", rows),
            batch_sampler=batches,
            collate_fn=collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write a checkpoint that can be resumed, and built or trained further by itself."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, TrainableLm):
            save_checkpoint(model, self._base_dir, folder)
            save_probes(model, folder)
        else:
            model.save_pretrained(folder)
            # The configuration stays out: with it the folder would look like a whole model.
            (folder / "base_model.txt").write_text(f"{self._base_dir}\n", encoding="utf-8")
