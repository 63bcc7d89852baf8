"""Every entry of the encoder registry keeps the encoder contract; a new entry is tested by its name."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sensorium.codecs import train_bpe
from sensorium.core.types import Padded, Tokens, pad
from sensorium.data.transforms import Input
from sensorium.encoders import ENCODERS, Encoder
from sensorium.media import Audio, Image, Text, Video

TOKENIZER = train_bpe(["a green frog sits by the pond", "two red apples", "the brown dog"] * 7, 300)
SMALL = {
    "image-cnn": {"width": 5, "depths": (1, 2, 1), "size_px": 32},
    "image-vit": {"width": 20, "depth": 2, "patch_px": 8, "size_px": 32},
    "text-gru": {"tokenizer_json": TOKENIZER, "width": 22, "depth": 2},
    "text-transformer": {"tokenizer_json": TOKENIZER, "width": 20, "depth": 2},
    "audio-cnn": {"width": 3, "depths": (1, 1, 1), "dim": 13, "num_mels": 20},
    "audio-transformer": {"width": 20, "depth": 2, "num_mels": 20},
    "video-frames": {"frame_options": {"width": 5, "depths": (1, 1), "size_px": 16}, "num_frames": 5},
}
# The architectures of public weights, without the weights.
PRETRAINED = {
    "efficientnet-lite0": {"pretrained": False},
    "minilm-l6": {"pretrained": False, "tokenizer_json": TOKENIZER},
    "whisper-tiny.en": {"pretrained": False},
}
OPTIONS = {**SMALL, **PRETRAINED}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in PRETRAINED else name for name in ENCODERS]


def media(modality: str) -> list[Image | Text | Audio | Video]:
    """Five media of different lengths, the first as short as can be."""
    rng = np.random.default_rng(7)

    def pixels(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    if modality == "image":
        return [Image(pixels(*shape)) for shape in ((1, 1), (37, 53), (64, 31), (41, 41), (101, 5))]
    if modality == "text":
        return [Text(text) for text in ("", "frog", "two red apples", "the frog", "a dog by the green pond")]
    if modality == "audio":
        seconds = (0.0001, 0.43, 0.71, 0.29, 1.01)
        return [Audio(rng.normal(0, 0.1, (int(s * 16_000), 1)).astype(np.float32), 16_000) for s in seconds]
    return [Video(pixels(n, 17, 23), np.arange(n) / 7) for n in (1, 3, 5, 2, 4)]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def encoder(name: str) -> nn.Module:
    return build(name, seed=1)


def build(name: str, seed: int) -> nn.Module:
    """Build in float64, every parameter shaken, so that nothing is equal only because it starts at zero."""
    torch.manual_seed(seed)
    encoder = ENCODERS.build(name, **OPTIONS.get(name, {}))
    assert isinstance(encoder, nn.Module)
    encoder = encoder.double().eval()
    if name in SMALL:
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


def arrays(encoder: nn.Module) -> list[np.ndarray]:
    return [encoder.input(item) for item in media(encoder.modality)]


def stack(items: list[np.ndarray]) -> Padded:
    padded = pad(items)
    is_float = padded.values.dtype.is_floating_point
    return Padded(padded.values.double() if is_float else padded.values, padded.mask)


def real(tokens: Tokens) -> list[torch.Tensor]:
    return [values[mask] for values, mask in zip(tokens.values, tokens.mask, strict=True)]


def assert_equal(left: Tokens, right: Tokens, tolerance: float = 1e-9) -> None:
    for ours, theirs in zip(real(left), real(right), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_declares_what_it_is(encoder: nn.Module) -> None:
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder.input, Input)
    assert encoder.modality in {"image", "text", "audio", "video"}
    assert pickle.loads(pickle.dumps(encoder.input)) == encoder.input


def test_tokens_have_the_declared_width_and_every_sample_has_a_real_one(encoder: nn.Module) -> None:
    tokens = encoder(stack(arrays(encoder)))
    assert tokens.values.shape[::2] == (5, encoder.dim)
    assert tokens.mask.shape == tokens.values.shape[:2]
    assert tokens.mask.dtype == torch.bool
    assert tokens.mask.any(dim=1).all()
    assert tokens.values.isfinite().all()


def test_batch_of_n_equals_n_singles(encoder: nn.Module) -> None:
    items = arrays(encoder)
    together = real(encoder(stack(items)))
    for item, ours in zip(items, together, strict=True):
        (alone,) = real(encoder(stack([item])))
        torch.testing.assert_close(ours, alone, rtol=1e-9, atol=1e-9)


def test_order_within_the_batch_does_not_matter(encoder: nn.Module) -> None:
    items = arrays(encoder)
    forward, backward = real(encoder(stack(items))), real(encoder(stack(items[::-1])))
    for ours, theirs in zip(forward, backward[::-1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_content_of_masked_places_changes_nothing(encoder: nn.Module) -> None:
    inputs = stack(arrays(encoder))
    if inputs.mask.all():
        pytest.skip("images are never padded")
    hidden = ~inputs.mask.reshape(*inputs.mask.shape, *[1] * (inputs.values.ndim - 2))
    garbage = 17 if inputs.values.dtype == torch.int64 else 1e4
    assert_equal(encoder(inputs), encoder(Padded(inputs.values.masked_fill(hidden, garbage), inputs.mask)))


def test_more_padding_changes_nothing(encoder: nn.Module) -> None:
    inputs = stack(arrays(encoder))
    if encoder.modality == "image":
        pytest.skip("images are never padded")
    longer = Padded(
        *(torch.cat([part, torch.zeros_like(part)], dim=1) for part in (inputs.values, inputs.mask))
    )
    assert_equal(encoder(inputs), encoder(longer))


def test_evaluation_is_deterministic(encoder: nn.Module) -> None:
    inputs = stack(arrays(encoder))
    torch.testing.assert_close(encoder(inputs).values, encoder(inputs).values, rtol=0, atol=0)


def test_distinct_inputs_give_distinct_tokens(encoder: nn.Module) -> None:
    tokens = real(encoder(stack(arrays(encoder))))
    means = torch.stack([values.mean(dim=0) for values in tokens])
    distances = torch.cdist(means, means) + torch.eye(len(means))
    assert distances.min() > 1e-3 * means.norm(dim=1).max()


def test_every_parameter_gets_a_gradient(encoder: nn.Module) -> None:
    inputs = stack(arrays(encoder))
    tokens = encoder(inputs)
    direction = torch.randn(
        tokens.values.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    (tokens.values * direction * tokens.mask[..., None]).sum().backward()
    without = [
        key for key, value in encoder.named_parameters() if value.requires_grad and not _has_gradient(value)
    ]
    assert without == []


def test_masked_tokens_send_no_gradient_to_padding(encoder: nn.Module) -> None:
    inputs = stack(arrays(encoder))
    if not inputs.values.dtype.is_floating_point or inputs.mask.all():
        pytest.skip("ids have no gradient and images no padding")
    inputs.values.requires_grad_()
    tokens = encoder(inputs)
    (tokens.values * tokens.mask[..., None]).square().sum().backward()
    assert inputs.values.grad is not None
    assert inputs.values.grad[~inputs.mask].abs().max() == 0
    assert inputs.values.grad[inputs.mask].abs().max() > 0


def test_saved_parameters_give_the_same_encoder(name: str, encoder: nn.Module) -> None:
    inputs = stack(arrays(encoder))
    other = build(name, seed=2)
    other.load_state_dict(copy.deepcopy(encoder.state_dict()))
    torch.testing.assert_close(other(inputs).values, encoder(inputs).values, rtol=0, atol=0)


def test_runs_in_bfloat16(encoder: nn.Module) -> None:
    exact = stack(arrays(encoder))
    is_float = exact.values.dtype.is_floating_point
    inputs = Padded(exact.values.float() if is_float else exact.values, exact.mask)
    expected, encoder = encoder(exact), encoder.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = encoder(inputs)
    for ours, theirs in zip(real(tokens), real(expected), strict=True):
        assert (ours - theirs).norm() < 0.1 * theirs.norm()


def test_augmented_inputs_have_the_same_form(encoder: nn.Module) -> None:
    for item in media(encoder.modality):
        plain = encoder.input(item)
        augmented = encoder.input(item, np.random.default_rng(11))
        again = encoder.input(item, np.random.default_rng(11))
        assert augmented.dtype == plain.dtype
        assert augmented.shape[1:] == plain.shape[1:]
        np.testing.assert_array_equal(augmented, again)


def _has_gradient(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
