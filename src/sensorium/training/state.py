"""The state of a run between two steps, saved so that a resumed run equals an uninterrupted one.

One safetensors file holds the weights, their moving average and AdamW's moments; its header holds the rest
(step, position in the data, length of the log, recipe, data). One file is replaced by one rename, so a crash
cannot leave halves of two states. Random numbers need no state: each step has its own stream, named by seed
and step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.errors import CheckpointError, TrainingError
from sensorium.models.checkpoint import read_tensors, write_tensors
from sensorium.training.optim import MovingAverage, trained, training_state
from sensorium.training.recipe import differences

STATE = Path("last") / "state.safetensors"
FORMAT = "sensorium training state 1"


@dataclass(frozen=True)
class RunState:
    """Position of a run.

    Attributes:
        step: Steps taken.
        epoch: Epoch of the next batch.
        offset: Number of the next batch in that epoch.
        best: Best score so far; None before the first evaluation.
        best_step: Its step.
        log_bytes: Length of the log.
        seen: Rows trained on so far, with repeats.
    """

    step: int = 0
    epoch: int = 0
    offset: int = 0
    best: float | None = None
    best_step: int = 0
    log_bytes: int = 0
    seen: int = 0


Identity = Mapping[str, Any]
"""Must be equal for a run to resume: the recipe and an identity of the data, as plain values."""


def save_state(
    folder: Path,
    state: RunState,
    identity: Identity,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage,
    memory: Mapping[str, Tensor],
) -> None:
    """Replace the saved state, durably; `memory` is the criterion's."""
    tensors = _prefixed("model", training_state(model)) | _prefixed("ema", training_state_of(average, model))
    tensors |= _prefixed("memory", memory)
    for name, parameter in trained(model).items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value
    header = {"format": FORMAT, "standing": json.dumps(asdict(state)), "identity": json.dumps(identity)}
    write_tensors(folder / STATE, tensors, header)


def load_state(
    folder: Path,
    identity: Identity,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage,
    memory: dict[str, Tensor],
) -> RunState:
    """Load a saved state into model, optimizer, average and the criterion's memory.

    Returns:
        Position of the run; the start if nothing was saved yet.

    Raises:
        TrainingError: If the run is of another recipe or other data; the message names the keys.
        CheckpointError: If the file is damaged.
    """
    if not (folder / STATE).exists():
        return RunState()
    tensors, header = read_tensors(folder / STATE)
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{folder / STATE} is '{header.get('format')}'; expected '{FORMAT}'")
    changed = differences(json.loads(header["identity"]), json.loads(json.dumps(identity)))
    if changed:
        raise TrainingError(
            f"{folder} was begun with another {', '.join(changed)}; set it back, or choose another folder"
        )
    _restore(training_state(model), _unprefixed("model", tensors), folder)
    _restore(training_state_of(average, model), _unprefixed("ema", tensors), folder)
    memory.update(_unprefixed("memory", tensors))
    for name, parameter in trained(model).items():
        values = {key.split(".")[1]: value for key, value in tensors.items() if _is_of(key, name)}
        optimizer.state[parameter] = {
            key: value if key == "step" else value.to(parameter.device) for key, value in values.items()
        }
    return RunState(**json.loads(header["standing"]))


def training_state_of(average: MovingAverage, model: nn.Module) -> dict[str, Tensor]:
    """Tensors of the average that change in training, by name."""
    state = average.model.state_dict()
    return {name: state[name] for name in training_state(model)}


@torch.no_grad()
def _restore(targets: Mapping[str, Tensor], saved: Mapping[str, Tensor], folder: Path) -> None:
    shapes = {name: target.shape for name, target in targets.items()}
    if shapes != {name: tensor.shape for name, tensor in saved.items()}:
        raise CheckpointError(
            f"{folder / STATE} does not fit the recipe's model; start anew in another folder"
        )
    for name, target in targets.items():
        target.copy_(saved[name])


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _is_of(key: str, name: str) -> bool:
    return key.startswith("optimizer.") and key.split(".", 2)[2] == name
