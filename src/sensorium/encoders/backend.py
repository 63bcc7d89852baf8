"""Chooses the fastest backend for a frozen encoder by timing, with a bound on the error.

Input: an encoder and an example batch. Output: the encoder running in the chosen backend, and a report with
the rate of each backend and its error against eager fp32. Backends:

    eager   PyTorch in fp32
    bf16    PyTorch with a bfloat16 copy, images channels-last
    onnx    ONNX Runtime in fp32 (extra `onnx`, CPU only); the exported graph is stored in the user's cache

Inference only: there are no gradients, and later changes of the encoder have no effect.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sensorium.core.errors import MissingExtraError, UsageError
from sensorium.core.files import replace_atomic
from sensorium.core.runtime import cache_dir, require
from sensorium.core.types import Padded, Tokens
from sensorium.data.transforms import Input
from sensorium.encoders.registry import Encoder

EAGER = "eager"
TOO_SLOW = 3.0
"""A backend that takes this many times eager's time on one item is not timed on a whole batch."""
MAX_ERROR = 1e-3


@dataclass(frozen=True)
class Timing:
    """Measurement of one backend.

    Attributes:
        backend: Name of the backend.
        samples_per_s: Rate of the fastest round.
        error: |tokens - eager tokens| / |eager tokens| over real tokens.
    """

    backend: str
    samples_per_s: float
    error: float


@dataclass(frozen=True)
class Report:
    """Result of `probe`.

    Attributes:
        timings: One per backend that ran, `eager` first.
        chosen: Fastest backend within the error bound.
        max_error: Bound on `Timing.error`.
        skipped: Backends that did not run, with the reason.
    """

    timings: tuple[Timing, ...]
    chosen: str
    max_error: float
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = []
        for one in self.timings:
            note = " <- chosen" if one.backend == self.chosen else ""
            if one.error > self.max_error:
                note = f" (over the bound of {self.max_error:.0e})"
            lines.append(f"{one.backend:6} {one.samples_per_s:8.1f} samples/s, error {one.error:.1e}{note}")
        return "\n".join(lines + [f"{name:6} not run: {why}" for name, why in self.skipped.items()])


class FrozenEncoder:
    """An encoder in a backend: an `Encoder` without parameters; `backend` is the name."""

    def __init__(self, encoder: Encoder, backend: str, run: Callable[[Padded], Tokens]) -> None:
        self.modality: str = encoder.modality
        self.dim: int = encoder.dim
        self.input: Input = encoder.input
        self.backend = backend
        self._run = run

    def __call__(self, inputs: Padded) -> Tokens:
        """Encode without gradients."""
        with torch.no_grad():
            return self._run(inputs)


def probe(
    encoder: Encoder, example: Padded, *, max_error: float = MAX_ERROR, num_rounds: int = 3
) -> tuple[FrozenEncoder, Report]:
    """Time every backend on `example`, and choose the fastest within the error bound.

    Each round runs all backends in turn, so that other load on the machine affects all equally.

    Args:
        encoder: Encoder in evaluation mode, on its device.
        example: Batch of typical size.
        max_error: Bound on the relative error of tokens; bfloat16 needs about 2e-2.
        num_rounds: Number of timed rounds, after a warm-up.

    Raises:
        UsageError: If the encoder is in training mode.
    """
    runs, skipped = _all_backends(encoder, example)
    reference = runs[EAGER](example)
    errors = {name: relative_error(run(example), reference) for name, run in runs.items()}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(num_rounds):
        for name, run in runs.items():
            best[name] = min(best[name], _time(run, example))
    size = len(example.values)
    timings = tuple(Timing(name, size / best[name], errors[name]) for name in runs)
    usable = [timing for timing in timings if timing.error <= max_error]
    chosen = max(usable, key=lambda timing: timing.samples_per_s).backend
    return runs[chosen], Report(timings, chosen, max_error, skipped)


def use_backend(backend: str, encoder: Encoder, example: Padded) -> FrozenEncoder:
    """Prepare an encoder for the named backend.

    Args:
        backend: "eager", "bf16" or "onnx".
        encoder: Encoder in evaluation mode.
        example: Typical batch; ONNX fixes its image size, while other lengths may vary.

    Raises:
        UsageError: If there is no such backend, or the encoder is in training mode.
        MissingExtraError: If ONNX Runtime is not installed.
    """
    if backend not in BACKENDS:
        raise UsageError(f"no backend '{backend}'; known: {', '.join(BACKENDS)}")
    if not isinstance(encoder, nn.Module):
        raise UsageError(f"{type(encoder).__name__} is not an nn.Module; only modules can use a backend")
    if encoder.training:
        raise UsageError("the encoder is in training mode; call .eval() first")
    return FrozenEncoder(encoder, backend, BACKENDS[backend](encoder, example))


def relative_error(tokens: Tokens, reference: Tokens) -> float:
    """Norm of the difference divided by the norm of the reference, over real tokens."""
    real = reference.values[reference.mask].detach().double()
    difference = tokens.values[reference.mask].detach().double() - real
    return float(difference.norm() / real.norm())


def _all_backends(encoder: Encoder, example: Padded) -> tuple[dict[str, FrozenEncoder], dict[str, str]]:
    runs, skipped = {EAGER: use_backend(EAGER, encoder, example)}, {}
    one = Padded(example.values[:1], example.mask[:1])
    eager_s = min(_time(runs[EAGER], one) for _ in range(2))
    for name in BACKENDS:
        if name == EAGER:
            continue
        try:
            run = use_backend(name, encoder, example)
            slowdown = min(_time(run, one) for _ in range(2)) / eager_s
            if slowdown > TOO_SLOW:
                skipped[name] = f"{slowdown:.0f} times slower than eager on one item"
                continue
            run(example)
            runs[name] = run
        except MissingExtraError as error:
            skipped[name] = str(error)
        except Exception as error:  # exporters and kernels raise any type of error; the backend is skipped
            skipped[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return runs, skipped


def _time(run: FrozenEncoder, example: Padded) -> float:
    start = time.perf_counter()
    run(example)
    if example.values.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _eager(encoder: nn.Module, example: Padded) -> Callable[[Padded], Tokens]:
    return lambda inputs: encoder(inputs)


def _bf16(encoder: nn.Module, example: Padded) -> Callable[[Padded], Tokens]:
    is_image = example.values.ndim == 4
    layout = torch.channels_last if is_image else torch.contiguous_format
    half = copy.deepcopy(encoder).to(dtype=torch.bfloat16)
    if is_image:
        half = half.to(memory_format=layout)  # type: ignore[call-overload]  # not in torch's stubs

    def run(inputs: Padded) -> Tokens:
        values = inputs.values
        if values.is_floating_point():
            values = values.to(dtype=torch.bfloat16, memory_format=layout)
        tokens: Tokens = half(Padded(values, inputs.mask))
        return Tokens(tokens.values.float(), tokens.mask)

    return run


def _onnx(encoder: nn.Module, example: Padded) -> Callable[[Padded], Tokens]:
    if example.values.device.type != "cpu":
        raise UsageError("ONNX Runtime is used on the CPU only; move the encoder there")
    runtime = require("onnxruntime", "onnx")
    for module in ("onnx", "onnxscript"):
        require(module, "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    path = _exported(encoder, example)
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {argument.name for argument in session.get_inputs()}

    def run(inputs: Padded) -> Tokens:
        given = {"values": inputs.values, "mask": inputs.mask}
        feed = {name: value.numpy() for name, value in given.items() if name in names}
        values, mask = session.run(["tokens", "real"], feed)
        return Tokens(torch.from_numpy(values), torch.from_numpy(mask))

    return run


BACKENDS: Mapping[str, Callable[[nn.Module, Padded], Callable[[Padded], Tokens]]] = MappingProxyType(
    {EAGER: _eager, "bf16": _bf16, "onnx": _onnx}
)
"""Backends by name."""


class _Flat(nn.Module):
    """An encoder with tensors as inputs and outputs, as the exporter needs."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encoder(Padded(values, mask))
        return tokens.values, tokens.mask


def _exported(encoder: nn.Module, example: Padded) -> Path:
    """Path of the ONNX graph of `encoder`; exported once per set of weights and image shape."""
    path = cache_dir("onnx") / f"{type(encoder).__name__}-{_fingerprint(encoder, example)}.onnx"
    if not path.exists():
        replace_atomic(path, lambda temporary: _export(encoder, example, temporary))
    return path


def _export(encoder: nn.Module, example: Padded, path: Path) -> None:
    lengths = {0: torch.export.Dim.DYNAMIC}
    if example.mask.shape[1] > 1:
        lengths[1] = torch.export.Dim.DYNAMIC
    values, mask = example.values, example.mask
    if len(values) == 1:  # the exporter would treat a batch size of one as constant
        values, mask = torch.cat([values, values]), torch.cat([mask, mask])
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the exporter warns about its internals
    with contextlib.ExitStack() as stack:
        stack.callback(logger.setLevel, level)
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.no_grad())
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Flat(encoder),
            (values, mask),
            str(path),
            input_names=["values", "mask"],
            output_names=["tokens", "real"],
            dynamic_shapes={"values": lengths, "mask": dict(lengths)},
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _fingerprint(encoder: nn.Module, example: Padded) -> str:
    shape = tuple(example.values.shape[1 if example.mask.shape[1] == 1 else 2 :])
    digest = hashlib.sha256(f"{torch.__version__} {encoder} {shape} {example.values.dtype}".encode())
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
