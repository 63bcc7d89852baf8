"""AdamW with weight decay on matrices only, learning rate schedule, moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, TrainingError
from sensorium.models.tower import Tower
from sensorium.training.recipe import TrainConfig

_UNDECAYED_MODULES = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)


def build_optimizer(
    model: nn.Module, config: TrainConfig, pretrained: Collection[str] = ()
) -> torch.optim.AdamW:
    """Make AdamW with up to four groups: decayed or not, trained before or new.

    Norms, biases, embeddings and all other parameters with fewer than two axes (logit scale) are not decayed.
    A group's `rate` multiplies the scheduled learning rate: `unlocked_rate` for what is unlocked in a locked
    encoder, and for the parameters named in `pretrained`.

    Raises:
        TrainingError: If nothing trains.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    undecayed = {id(parameter) for parameter in undecayed_parameters(model)}
    unlocked = {
        id(parameter)
        for name, tower in _locked_towers(model)
        for parameter in model.get_submodule(f"{name}.encoder").parameters()
    }
    for name, parameter in trained(model).items():
        is_old = id(parameter) in unlocked or name in pretrained
        groups.setdefault((id(parameter) not in undecayed, is_old), []).append(parameter)
    if not groups:
        raise TrainingError("nothing trains: every parameter is locked; unlock a tower or give it a head")
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if is_decayed else 0.0,
                "rate": config.unlocked_rate if is_old else 1.0,
            }
            for (is_decayed, is_old), parameters in groups.items()
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )


def learning_rate(step: int, *, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Learning rate with linear warm-up and cosine decay.

    It is peak (s + 1) / warmup, then floor + (peak - floor) (1 + cos pi t) / 2.

    Args:
        step: Step s that is about to be taken, from 0.
        peak: Rate after the warm-up.
        warmup: Steps of the warm-up.
        total: Steps of the run; t goes from 0 after the warm-up to 1 at the last step.
        floor: Rate at the end.

    Raises:
        ConfigError: If the warm-up is longer than the run.

    Example:
        >>> [learning_rate(step, peak=1.0, warmup=2, total=5) for step in range(5)]
        [0.5, 1.0, 1.0, 0.5, 0.0]

    Reference:
        Loshchilov and Hutter, arXiv 1608.03983, eq. 5, without restarts.
    """
    if warmup > total:
        raise ConfigError(f"warmup={warmup} is longer than the run of {total} steps; lower train.warmup")
    if step < warmup:
        return peak * (step + 1) / warmup
    fraction = min(1.0, (step - warmup) / max(1, total - 1 - warmup))
    return floor + (peak - floor) * (1 + math.cos(math.pi * fraction)) / 2


def _locked_towers(model: nn.Module) -> list[tuple[str, Tower]]:
    """Towers with a locked encoder, some blocks of which may be unlocked."""
    towers = [(name, part) for name, part in model.named_modules() if isinstance(part, Tower)]
    return [(name, tower) for name, tower in towers if tower.config.frozen]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that take a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def undecayed_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters without weight decay."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or name.endswith("bias") or isinstance(module, _UNDECAYED_MODULES):
                yield parameter


class MovingAverage:
    """Exponential moving average of a model's trained parameters: m <- d m + (1 - d) p after each step.

    With d = min(decay, (1 + s) / (10 + s)) at step s, so that the first steps are forgotten.
    Running statistics are averaged alike; other buffers are copied as they are.

    Attributes:
        model: A copy of the model that holds the average, in evaluation mode.

    Args:
        model: The model that trains, as it starts.
        decay: d, in [0, 1); 0 follows the model exactly.
        start_share: Share of the starting values of these in the weights that are kept.
        pretrained: Names of the parameters that come from another run.
    """

    def __init__(
        self, model: nn.Module, decay: float, start_share: float = 0.0, pretrained: Collection[str] = ()
    ) -> None:
        self.decay = decay
        self.model = _shadow(model)
        self._start_share = start_share
        old = {name: tensor for name, tensor in training_state(model).items() if name in pretrained}
        self._start = {
            name: tensor.detach().clone()
            for name, tensor in old.items()
            if start_share and tensor.is_floating_point()
        }
        self._pairs = [(dict(self.model.named_parameters())[name], p) for name, p in trained(model).items()]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))
        for mean, _ in self._pairs:
            mean.requires_grad_(False)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average in the parameters after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, parameter in self._pairs:
            mean.lerp_(parameter, 1 - decay)
        for kept, buffer in self._buffers:
            if kept.data_ptr() == buffer.data_ptr():
                continue
            if kept.is_floating_point():
                kept.lerp_(buffer, 1 - decay)
            else:
                kept.copy_(buffer)

    @torch.no_grad()
    def kept(self) -> nn.Module:
        """The model that is evaluated and kept: the average, or its mean with the start.

        Between two ends of one fine-tuning the loss is seldom higher than at either, and what the first run
        knew is not lost: WiSE-FT, Wortsman et al., "Robust fine-tuning of zero-shot models" (2022).
        """
        if not self._start:
            return self.model
        shared = {id(p): p for name, p in self.model.named_parameters() if name not in self._start}
        mixed = copy.deepcopy(self.model, memo=dict(shared))
        for name, tensor in (*mixed.named_parameters(), *mixed.named_buffers()):
            if name in self._start:
                tensor.data = self._start[name].lerp(tensor, 1 - self._start_share)
        return mixed


def _shadow(model: nn.Module) -> nn.Module:
    """Copy a model; what does not train is shared, not copied."""
    shared: dict[int, Tensor] = {id(p): p for p in model.parameters() if not p.requires_grad}
    for module in model.modules():
        if not any(p.requires_grad for p in module.parameters()) and not module.training:
            shared.update({id(buffer): buffer for buffer in module.buffers()})
    twin = copy.deepcopy(model, memo=dict(shared))
    return twin.eval()


def training_state(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that change in training, by name: trained parameters, and buffers that no lock holds."""
    trains = trained(model).keys()
    locked = [f"{name}.encoder." for name, _ in _locked_towers(model)]
    for name, module in model.named_modules():
        held = [parameter.requires_grad for parameter in module.parameters()]
        if held and not any(held):
            locked.append(f"{name}.")
    still = tuple(locked)
    state = model.state_dict()
    return {name: tensor for name, tensor in state.items() if name in trains or not name.startswith(still)}
