from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from duologue.finetune import body
from duologue.finetune.body import attend
from duologue.finetune.errors import TrainingError
from duologue.finetune.model import TrainableLm, initialize
from duologue.finetune.model_files import load_base, load_probes, save_checkpoint, save_probes
from duologue.finetune.new_model import choose_base, main, write_new_model
from duologue.finetune.rows import IGNORED
from duologue.finetune.sources import text_side
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError

LM = LmConfig((20, 9, 9), (0, 1, 2), 16, 24, 2, 4, 2, 4)


def _model(weights: tuple[float, ...] | None = None, *, recomputes: bool = False) -> TrainableLm:
    model = TrainableLm(LM, weights, recomputes=recomputes)
    initialize(model, seed=1)
    return model


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 9, (2, 7, 3), generator=generator)
    labels = ids.clone()
    labels[:, :3] = IGNORED
    labels[:, 5:, 0] = IGNORED
    return ids, labels


def _probed() -> TrainableLm:
    model = TrainableLm(LM, None, num_voices=3, voice_loss_weight=0.5)
    initialize(model, seed=1)
    return model


def test_probes_tell_from_each_row_who_speaks_the_next_one() -> None:
    model, plain = _probed(), _model()
    ids, labels = _batch()
    voices = torch.full((2, 7), IGNORED)
    voices[0, 3:6] = torch.tensor([2, 0, 1])
    outputs = model(ids, labels, voices=voices)
    states = model.model.embed(ids)
    tables = body.rotary(LM, 7, states.device)
    losses = []
    for layer, probe in zip(model.model.language_model.layers, model.voice_probes, strict=True):
        states = layer(states, tables)
        scores = probe(states)[0, 2:5]
        losses.append(F.cross_entropy(scores, torch.tensor([2, 0, 1])))
    assert torch.allclose(outputs["voice_loss"], torch.stack(losses).mean())
    total = plain(ids, labels)["loss"] + 0.5 * outputs["voice_loss"]
    assert torch.allclose(outputs["loss"], total)


@pytest.mark.parametrize("voices", [None, torch.full((2, 7), IGNORED)])
def test_rows_of_nobody_cost_the_probes_nothing_and_reach_all_parameters(
    voices: torch.Tensor | None,
) -> None:
    model = _probed()
    outputs = model(*_batch(), voices=voices)
    outputs["loss"].backward()
    assert float(outputs["voice_loss"]) == 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_checkpoint_has_no_probes_but_they_lie_beside_it(tmp_path: Path) -> None:
    write_new_model(tmp_path / "new", "tiny", seed=0)
    base = load_base(tmp_path / "new")
    model = TrainableLm(base.checkpoint.lm, num_voices=3, voice_loss_weight=0.5)
    save_checkpoint(model, tmp_path / "new", tmp_path / "saved")
    save_probes(model, tmp_path / "saved")
    again = load_base(tmp_path / "saved").model
    assert set(again.state_dict()) == set(base.model.state_dict())
    other = TrainableLm(base.checkpoint.lm, num_voices=3, voice_loss_weight=0.5)
    load_probes(other, tmp_path / "saved")
    for mine, theirs in zip(model.voice_probes, other.voice_probes, strict=True):
        assert torch.equal(mine.weight, theirs.weight)
    load_probes(other, tmp_path / "new")


def test_the_loss_is_the_shifted_cross_entropy_weighted_by_channel() -> None:
    weights = (8.0, 2.0, 1.0)
    model = _model(weights)
    ids, labels = _batch()
    losses = [
        F.cross_entropy(scores[:, :-1].flatten(0, 1), labels[:, 1:, c].flatten())
        for c, scores in enumerate(model.logits(ids))
    ]
    expected = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / 11
    outputs = model(ids, labels)
    assert torch.allclose(outputs["channel_losses"], torch.stack(losses))
    assert torch.allclose(outputs["loss"], torch.as_tensor(expected))


def test_padding_on_the_right_changes_neither_loss_nor_gradient() -> None:
    ids, labels = _batch()
    padded = F.pad(ids, (0, 0, 0, 4), value=5), F.pad(labels, (0, 0, 0, 4), value=IGNORED)
    gradients = []
    for batch in ((ids, labels), padded):
        model = _model()
        loss = model(*batch)["loss"]
        loss.backward()
        gradient = model.model.language_model.layers[0].self_attn.q_proj.weight.grad
        gradients.append((loss.detach(), gradient))
    for first, second in zip(*gradients, strict=True):
        assert torch.allclose(first, second, atol=1e-7)


def test_recomputing_gives_the_same_gradients() -> None:
    gradients = []
    for recomputes in (False, True):
        model = _model(recomputes=recomputes).train()
        model(*_batch())["loss"].backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_channel_without_labels_adds_nothing() -> None:
    ids, labels = _batch()
    labels[..., 2] = IGNORED
    outputs = _model()(ids, labels)
    assert float(outputs["channel_losses"][2]) == 0
    outputs["loss"].backward()


def test_both_ways_to_attend_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(2, 4, 11, 8, generator=generator)
    key, value = torch.randn(2, 2, 2, 11, 8, generator=generator)
    plain = attend(query, key, value)
    monkeypatch.setattr(body, "_MAX_PLAIN_ROWS", 0)
    assert torch.allclose(attend(query, key, value), plain, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, 0.0, 1.0)])
def test_weights_that_do_not_fit_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(TrainingError, match="allowed: 3 positive numbers"):
        TrainableLm(LM, weights)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_saved_checkpoint_is_read_back(tmp_path: Path, dtype: str) -> None:
    write_new_model(tmp_path / "new", "tiny", seed=4)
    base = load_base(tmp_path / "new")
    save_checkpoint(base.model, tmp_path / "new", tmp_path / "saved", dtype)
    again = load_base(tmp_path / "saved")
    assert again.checkpoint.lm == base.checkpoint.lm
    assert again.checkpoint.tokens == base.checkpoint.tokens
    for name, value in base.model.state_dict().items():
        kept = value.half().float() if dtype == "float16" else value
        assert torch.equal(again.model.state_dict()[name], kept), name


def test_a_new_model_reads_its_opening_sentence_as_one_token_and_folds_case(
    tmp_path: Path,
) -> None:
    from duologue.build_engines.moss_ttsd import PROMPT

    write_new_model(tmp_path, "tiny", seed=4)
    tokenizer = load_base(tmp_path).tokenizer
    assert tokenizer.split_template(PROMPT.system) == [tokenizer.token_id(PROMPT.system)]
    assert tokenizer.encode_text("Abc") == tokenizer.encode_text("aBC")


def test_weights_too_large_for_half_precision_are_named(tmp_path: Path) -> None:
    write_new_model(tmp_path / "new", "tiny", seed=4)
    base = load_base(tmp_path / "new")
    with torch.no_grad():
        base.model.model.language_model.norm.weight[0] = 1e6
    with pytest.raises(TrainingError, match=r"norm\.weight has weights too large for float16"):
        save_checkpoint(base.model, tmp_path / "new", tmp_path / "saved", "float16")


def test_an_unknown_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="allowed: tiny, small"):
        write_new_model(tmp_path, "huge", seed=0)


def test_a_new_model_is_made_once_and_is_not_taken_for_another(tmp_path: Path) -> None:
    new = choose_base(None, "tiny", tmp_path, seed=4)
    written = (new / "model.safetensors").stat().st_mtime_ns
    assert choose_base(None, "tiny", tmp_path, seed=4) == new
    assert (new / "model.safetensors").stat().st_mtime_ns == written
    for shape, seed in (("small", 4), ("tiny", 5)):
        with pytest.raises(TrainingError, match=r'new model \{"shape": "tiny", "seed": 4\}'):
            choose_base(None, shape, tmp_path, seed)
    assert choose_base(new, None, tmp_path, seed=9) == new
    with pytest.raises(TrainingError, match="give either a model"):
        choose_base(new, "tiny", tmp_path, seed=4)


def test_a_new_model_is_written_by_a_line_and_never_over_another(tmp_path: Path) -> None:
    main([str(tmp_path / "new"), "--shape", "tiny", "--seed", "4"])
    assert choose_base(None, "tiny", tmp_path, seed=4) == tmp_path / "new"
    with pytest.raises(SystemExit, match="holds a model; allowed: another folder"):
        main([str(tmp_path / "new")])


def test_a_new_model_reads_chinese_as_pinyin(tmp_path: Path) -> None:
    write_new_model(tmp_path / "new", "tiny", seed=1)
    assert text_side(tmp_path / "new", "none").prompt.reading == "pinyin"
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    (tmp_path / "new" / "config.json").write_text(json.dumps({**config, "text_reading": "runes"}))
    with pytest.raises(ConfigError, match=r"text_reading is 'runes'; allowed: none, pinyin"):
        text_side(tmp_path / "new", "none")
