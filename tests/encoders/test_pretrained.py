import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sensorium.core.errors import CheckpointError, UsageError
from sensorium.core.types import Padded, pad
from sensorium.encoders.pretrained import efficientnet, minilm, whisper
from sensorium.encoders.pretrained.ctranslate2 import read_model
from sensorium.media import Audio, Text
from tiny_whisper import model_bin


def randomise(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01)


def test_class_names_follow_imagenet() -> None:
    names = efficientnet.EfficientNetLite0().class_names
    assert len(names) == 1000
    assert names[0].startswith("tench")
    assert names[207] == "golden retriever"
    assert names[999].startswith("toilet tissue")


@pytest.mark.parametrize("side", [64, 97])
def test_convolution_pads_as_tensorflow_does(side: int) -> None:
    conv = efficientnet.ConvNorm(3, 5, kernel=5, stride=2).eval()
    values = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    total = max((math.ceil(side / 2) - 1) * 2 + 5 - side, 0)
    left = total // 2
    padded = functional.pad(values, (left, total - left, left, total - left))
    plain = functional.conv2d(padded, conv.conv.weight, stride=2) / math.sqrt(1 + 1e-3)
    torch.testing.assert_close(conv(values), plain.clamp(0, 6))
    assert conv(values).shape[-1] == math.ceil(side / 2)


def test_name_maps_refuse_foreign_parameters() -> None:
    for module in (efficientnet, minilm, whisper):
        with pytest.raises(CheckpointError, match=r"parameter|variable"):
            module.translate({"bogus.weight": torch.zeros(1)})


def bert_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A BERT checkpoint whose translation is `state`, under the names that BERT gives."""
    parts = {
        "attention_norm": "attention.output.LayerNorm",
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.out": "attention.output.dense",
        "mlp.up": "intermediate.dense",
        "mlp.down": "output.dense",
        "mlp_norm": "output.LayerNorm",
    }
    names = {
        "words.weight": "embeddings.word_embeddings.weight",
        "positions.table": "embeddings.position_embeddings.weight",
        "segment": "embeddings.token_type_embeddings.weight",
        "norm.weight": "embeddings.LayerNorm.weight",
        "norm.bias": "embeddings.LayerNorm.bias",
    }
    for number in range(6):
        for ours, theirs in parts.items():
            for leaf in ("weight", "bias"):
                names[f"stack.blocks.{number}.{ours}.{leaf}"] = f"encoder.layer.{number}.{theirs}.{leaf}"
    renamed = {names[name]: value for name, value in state.items()}
    first = state["segment"]
    return renamed | {names["segment"]: torch.stack([first, first + 1]), "pooler.dense.weight": torch.ones(1)}


def plain_bert(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """BERT by its paper, one sentence (N,) at a time, sharing no code with ours."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    embeddings = "embeddings."
    x = state[embeddings + "word_embeddings.weight"][ids]
    x = x + state[embeddings + "position_embeddings.weight"][: len(ids)]
    x = norm(x + state[embeddings + "token_type_embeddings.weight"][0], embeddings + "LayerNorm")
    for number in range(6):
        layer = f"encoder.layer.{number}."
        query, key, value = (
            linear(x, f"{layer}attention.self.{part}").reshape(len(ids), 12, 32).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(1, 2) / math.sqrt(32)
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(len(ids), 384)
        x = norm(x + linear(mixed, layer + "attention.output.dense"), layer + "attention.output.LayerNorm")
        inner = linear(x, layer + "intermediate.dense")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, layer + "output.dense"), layer + "output.LayerNorm")
    return x


TOKENIZER = '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,' + (
    '"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,'
    '"model":{"type":"WordLevel","vocab":{"[UNK]":0,"frog":1},"unk_token":"[UNK]"}}'
)


def test_minilm_equals_a_plain_bert() -> None:
    encoder = minilm.MiniLM(TOKENIZER).eval()
    randomise(encoder, seed=3)
    with torch.no_grad():
        for parameter in encoder.parameters():  # signs, so that attention is not flat
            parameter.mul_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)).sign())
    published = bert_names(encoder.state_dict())
    loaded = minilm.MiniLM(TOKENIZER).eval()
    loaded.load_state_dict(minilm.translate(published))
    sentences = [np.arange(3, 3 + length, dtype=np.int64) * 7 for length in (11, 5, 1)]
    with torch.no_grad():
        tokens = loaded(pad(sentences))
        for row, ids in enumerate(sentences):
            plain = plain_bert(published, torch.from_numpy(ids))
            torch.testing.assert_close(tokens.values[row, : len(ids)], plain, rtol=1e-4, atol=1e-5)


def test_ctranslate2_file_is_read_and_filtered(tmp_path: Path) -> None:
    values = {
        "encoder/a": np.arange(6, dtype=np.float16).reshape(2, 3),
        "decoder/b": np.ones(5, np.float32),
        "encoder/n": np.array(6, np.int16),
    }
    path = tmp_path / "model.bin"
    path.write_bytes(model_bin(values))
    read = read_model(path, prefixes=("encoder/",))
    assert set(read) == {"encoder/a", "encoder/n", "encoder/alias"}
    np.testing.assert_array_equal(read["encoder/a"], values["encoder/a"])
    np.testing.assert_array_equal(read["encoder/alias"], values["encoder/a"])
    assert int(read["encoder/n"]) == 6


@pytest.mark.parametrize("cut", [2, 40, 90])
def test_ctranslate2_file_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(model_bin({"encoder/a": np.zeros((7, 11), np.float32)})[:cut])
    with pytest.raises(CheckpointError, match="fetch it again"):
        read_model(path)


def test_ctranslate2_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(model_bin({}, version=99))
    with pytest.raises(CheckpointError, match="version 99"):
        read_model(path)


def test_whisper_input_is_as_long_as_the_sound() -> None:
    sound = Audio(np.random.default_rng(0).normal(size=(12_800, 2)).astype(np.float32), 16_000)
    assert whisper.WhisperInput()(sound).shape == (80, 80)
    assert whisper.WhisperInput(tail_s=0.5)(sound).shape == (130, 80)
    assert whisper.WhisperInput(max_s=0.5)(sound).shape == (50, 80)
    with pytest.raises(UsageError, match="Text"):
        whisper.WhisperInput()(Text("a frog"))


def test_whisper_has_one_token_for_two_frames_and_hides_padding() -> None:
    encoder = whisper.WhisperEncoder().eval()
    randomise(encoder, seed=7)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 23, 80, generator=generator)
    mask = torch.arange(23)[None] < torch.tensor([[23], [9]])
    with torch.no_grad():
        tokens = encoder(Padded(values, mask))
        alone = encoder(Padded(values[1:, :9], mask[1:, :9]))
    assert tokens.mask.sum(1).tolist() == [12, 5]
    torch.testing.assert_close(tokens.values[1, :5], alone.values[0], rtol=1e-5, atol=1e-5)
