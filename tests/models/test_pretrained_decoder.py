"""A finished language model as writer: unchanged at first, frozen for good, and in no checkpoint."""

from pathlib import Path

import pytest
import torch

from multimodal_world import BPE, D, build, lesson
from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat
from sensorium.losses import next_id_loss
from sensorium.models import decoder as writer
from sensorium.models.checkpoint import load, read_tensors, save
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.pretrained.text_model import TextModel
from sensorium.nn.block import BlockConfig
from sensorium.training.optim import MovingAverage, training_state

BLOCK = BlockConfig(
    dim=24, num_heads=4, num_kv_heads=2, norm="rms", mlp="swiglu", mlp_dim=29, qkv_bias=False, out_bias=False,
    is_causal=True, rotary_axes=1,
)  # fmt: skip
LAYOUT = "{% for m in messages %}<start>{{ m.content }}<end>{% endfor %}<start>"


@pytest.fixture(autouse=True)
def finished(monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """What the name "tiny" stands for."""
    tokenizer = Bpe(BPE)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LanguageModel(
            LanguageModelConfig(vocab_size=tokenizer.vocab_size, block=BLOCK, depth=5)
        ).eval()
    found = TextModel(model, tokenizer, Chat(tokenizer, LAYOUT), frozenset({2}), 64)
    monkeypatch.setattr(writer, "open_text_model", lambda name: found)
    return model


def tiny(rank: int = 0, mode: str = "memory") -> MultimodalLM:
    looks = {"memory_last": 2} if mode == "memory" else {}
    return build(
        mode=mode, decoders={"text": {"pretrained": "tiny", "lora_rank": rank, **looks}}, is_moved=False
    )


@pytest.mark.parametrize("rank", [0, 3])
def test_before_it_trains_it_is_the_model_that_it_was(finished: LanguageModel, rank: int) -> None:
    model, whole = tiny(rank), lesson()
    ids, mask = whole.sequences.ids, whole.sequences.mask
    expected = finished(finished.embed(ids), mask)[whole.sequences.targets >= 0]
    assert torch.equal(model(whole).hidden, expected)


def test_prompts_are_laid_out_as_the_model_knows_them() -> None:
    model = tiny()
    ids = model.decoder("text").prompt_ids("a <end> frog")
    assert ids == [1, *Bpe(BPE).encode("a <end> frog", with_special=False), 2, 1]


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("mode", ["memory", "prefix"])
def test_only_what_was_added_learns_and_is_kept(tmp_path: Path, rank: int, mode: str) -> None:
    model = tiny(rank, mode).train()
    before = {name: tensor.clone() for name, tensor in model.decoder("text").model.state_dict().items()}
    average = MovingAverage(model, 0.5)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for step in range(3):
        optimizer.zero_grad()
        written = model(lesson())
        next_id_loss(written.hidden, model.decoder("text").model.output_matrix, written.targets).backward()
        optimizer.step()
        average.update(step)
    after = model.decoder("text").model.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    elsewhere = model.decoder("text").external_names()
    assert not changed & elsewhere
    assert bool(changed) == (mode == "memory" or rank > 0)
    assert not {f"decoders.text.model.{name}" for name in elsewhere} & training_state(model).keys()
    model.eval()
    loaded = load(save(model, tmp_path / "m"), MultimodalLM)
    kept, _ = read_tensors(tmp_path / "m" / "model.safetensors")
    assert not any(name.endswith("embedding.weight") and "decoders" in name for name in kept)
    assert torch.equal(loaded(lesson()).hidden, model(lesson()).hidden)
    assert len(list(loaded.parameters())) > len(kept)
    assert D == loaded.config.dim


def test_a_checkpoint_that_lacks_what_trained_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import safe_open

    from sensorium.core.errors import CheckpointError
    from sensorium.models.checkpoint import write_tensors

    save(tiny(), tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors, header = read_tensors(path)
    with safe_open(path, "pt") as file:
        assert file.metadata()["format"] == "sensorium multimodal language model 1"
    gate = next(name for name in tensors if "memory_gate" in name)
    write_tensors(path, {name: tensor for name, tensor in tensors.items() if name != gate}, header)
    with pytest.raises(CheckpointError, match="memory_gate"):
        load(tmp_path / "m", MultimodalLM)


def test_adapters_go_with_finished_models_alone() -> None:
    with pytest.raises(ValueError, match="lora_rank needs a pretrained decoder"):
        build(decoders={"text": {"tokenizer_json": BPE, "lora_rank": 3}})
    with pytest.raises(ValueError, match="exclude each other"):
        build(decoders={"text": {"tokenizer_json": BPE, "pretrained": "tiny"}})
