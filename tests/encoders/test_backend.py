import copy
import importlib
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sensorium.core.errors import MissingExtraError, UsageError
from sensorium.core.types import Padded, Tokens
from sensorium.encoders import backend
from sensorium.encoders.backend import BACKENDS, Report, Timing, probe, relative_error, use_backend


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_CACHE", str(tmp_path_factory.mktemp("cache")))


class Tiny(nn.Module):
    """Words to vectors, mixed over the real ones."""

    modality = "text"
    dim = 5

    def __init__(self) -> None:
        super().__init__()
        self.input = lambda media, rng=None: np.ones(3, np.int64)
        self.words = nn.Embedding(13, self.dim)
        self.mix = nn.Linear(self.dim, self.dim)

    def forward(self, inputs: Padded) -> Tokens:
        x = self.words(inputs.values) * inputs.mask[..., None]
        return Tokens(self.mix(x) + x.sum(1, keepdim=True), inputs.mask)


@pytest.fixture
def tiny() -> Tiny:
    torch.manual_seed(0)
    return Tiny().eval()


def batch(count: int, length: int) -> Padded:
    ids = torch.arange(count * length).reshape(count, length) % 13
    return Padded(ids, torch.arange(length)[None] <= torch.arange(count)[:, None] + length // 2)


def test_error_counts_real_tokens_only() -> None:
    mask = torch.tensor([[True, False]])
    reference = Tokens(torch.tensor([[[3.0, 4.0], [9.0, 9.0]]]), mask)
    other = Tokens(torch.tensor([[[3.0, 4.5], [0.0, 0.0]]]), mask)
    assert relative_error(other, reference) == pytest.approx(0.1)


def test_eager_is_the_encoder_itself_without_gradients(tiny: Tiny) -> None:
    run = use_backend("eager", tiny, batch(2, 3))
    tokens = run(batch(2, 3))
    torch.testing.assert_close(tokens.values, tiny(batch(2, 3)).values, rtol=0, atol=0)
    assert not tokens.values.requires_grad
    assert (run.modality, run.dim, run.backend) == ("text", 5, "eager")


def test_bf16_leaves_the_encoder_alone_and_gives_float32(tiny: Tiny) -> None:
    before = copy.deepcopy(tiny.state_dict())
    tokens = use_backend("bf16", tiny, batch(2, 3))(batch(2, 3))
    assert tokens.values.dtype == torch.float32
    assert 0 < relative_error(tokens, tiny(batch(2, 3))) < 2e-2
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())


@pytest.mark.slow
def test_onnx_runtime_gives_the_same_for_other_sizes(tiny: Tiny) -> None:
    run = use_backend("onnx", tiny, batch(1, 3))
    for count, length in ((1, 3), (5, 7), (2, 11)):
        tokens = run(batch(count, length))
        assert relative_error(tokens, tiny(batch(count, length))) < 1e-6
        assert torch.equal(tokens.mask, batch(count, length).mask)


def test_backend_beyond_the_bound_is_never_chosen(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "BACKENDS", {name: BACKENDS[name] for name in ("eager", "bf16")})
    run, report = probe(tiny, batch(2, 3), max_error=1e-9)
    assert (run.backend, report.chosen) == ("eager", "eager")
    assert [timing.backend for timing in report.timings] == ["eager", "bf16"]
    assert report.timings[0].error == 0
    assert "over the bound" in str(report)


def test_fastest_within_the_bound_is_chosen(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "BACKENDS", {name: BACKENDS[name] for name in ("eager", "bf16")})
    monkeypatch.setattr(backend, "_time", lambda run, example: {"eager": 2.0, "bf16": 0.5}[run.backend])
    run, report = probe(tiny, batch(2, 3), max_error=0.1)
    assert run.backend == report.chosen == "bf16"
    assert [timing.samples_per_s for timing in report.timings] == [1.0, 4.0]


def test_backend_that_fails_is_reported_not_raised(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(encoder: nn.Module, example: Padded) -> Tensor:
        raise RuntimeError("no kernel\ndetails")

    monkeypatch.setattr(backend, "BACKENDS", {"eager": BACKENDS["eager"], "bf16": broken})
    run, report = probe(tiny, batch(2, 3))
    assert run.backend == "eager"
    assert report.skipped == {"bf16": "RuntimeError: no kernel"}
    assert "bf16   not run: RuntimeError: no kernel" in str(report)


def test_missing_runtime_names_the_extra(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"sensorium\[onnx\]"):
        use_backend("onnx", tiny, batch(2, 3))
    importlib.invalidate_caches()


def test_wrong_use_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UsageError, match="eager, bf16, onnx"):
        use_backend("tpu", tiny, batch(2, 3))
    with pytest.raises(UsageError, match=r"\.eval\(\)"):
        use_backend("eager", Tiny().train(), batch(2, 3))


def test_report_names_the_chosen() -> None:
    report = Report((Timing("eager", 20.0, 0.0), Timing("onnx", 200.0, 2e-6)), "onnx", 1e-3)
    assert str(report).splitlines()[1] == "onnx      200.0 samples/s, error 2.0e-06 <- chosen"
