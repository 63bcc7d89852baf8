"""Pretrained encoders against what their reference implementations computed (`make_references.py`)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from make_references import TEXTS, pixels, sound

from sensorium.core.types import Padded, pad
from sensorium.encoders import ENCODERS
from sensorium.media import Audio
from sensorium.media.logmel import whisper_log_mel

DATA = Path(__file__).parent / "data"
pytestmark = [pytest.mark.network, pytest.mark.slow]


def relative(ours: torch.Tensor, theirs: np.ndarray) -> float:
    difference = ours.double().numpy() - theirs
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs))


def test_efficientnet_equals_its_package() -> None:
    reference = np.load(DATA / "efficientnet-lite0.npz")
    encoder = ENCODERS.build("efficientnet-lite0")
    values = torch.from_numpy(pixels())
    with torch.no_grad():
        pooled = encoder(Padded(values, torch.ones(len(values), 1, dtype=torch.bool))).values.mean(1)
        logits = encoder.classify(pooled)
    assert relative(pooled, reference["features"]) <= 1e-5
    assert relative(logits, reference["logits"]) <= 1e-5


def test_minilm_equals_transformers() -> None:
    reference = np.load(DATA / "minilm-l6.npz")
    encoder = ENCODERS.build("minilm-l6")
    inputs = pad([encoder.input(text) for text in TEXTS])
    np.testing.assert_array_equal(inputs.values.numpy(), reference["ids"])
    with torch.no_grad():
        tokens = encoder(inputs)
    weights = tokens.mask[..., None]
    pooled = (tokens.values * weights).sum(1) / weights.sum(1)
    assert relative(pooled, reference["pooled"]) <= 1e-5
    assert relative(tokens.values[0, :5], reference["first"]) <= 1e-5


def test_whisper_equals_ctranslate2() -> None:
    reference = np.load(DATA / "whisper-tiny.en.npz")
    encoder = ENCODERS.build("whisper-tiny.en")
    samples = sound()
    padded = np.pad(samples, (0, 30 * 16_000 - len(samples)))
    frames = len(samples) // 160
    mel = whisper_log_mel(padded)
    np.testing.assert_allclose(mel[:frames:7], reference["mel"], atol=1e-4)
    with torch.no_grad():
        hidden = encoder(pad([mel])).values[0]
    assert relative(hidden[: frames // 2 : 11], reference["hidden"]) <= 1e-5
    assert relative(hidden[-1], reference["last"]) <= 1e-5


def test_whisper_takes_a_sound_as_long_as_it_is() -> None:
    encoder = ENCODERS.build("whisper-tiny.en")
    frames = encoder.input(Audio(sound()[:, None], 16_000))
    with torch.no_grad():
        tokens = encoder(pad([frames]))
    assert tokens.values.shape == (1, 115, 384)
    assert torch.isfinite(tokens.values).all()


def test_class_vectors_know_their_names() -> None:
    """Rows 151 to 268 are dogs: they must be alike, if names and rows are in the same order."""
    encoder = ENCODERS.build("efficientnet-lite0")
    vectors = torch.nn.functional.normalize(encoder.class_vectors - encoder.class_vectors.mean(0), dim=1)
    similarity = vectors @ vectors.T
    dogs = similarity[151:269, 151:269].mean()
    assert dogs > 5 * similarity[151:269, 400:900].mean().abs()
