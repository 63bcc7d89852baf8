"""Projects the features of all modalities to one width and replaces absent modalities by learned tokens.

    x_m = LayerNorm(W_m f_m + b_m)      where the row has modality m
    x_m = a_m                           one learned absent token where it has not

A modality is absent if the mapping lacks it, if `present` is False, or if it has no real token. LayerNorm
follows the projection because encoders differ by orders of magnitude in scale; its bias also serves as
modality embedding. Masked and absent features are replaced by zeros first, so that even NaN is ignored.
Training drops each modality of each row independently (ModDrop, arXiv:1501.00102), which trains the absent
tokens. Positions of tokens are not encoded here; encoders do that.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import Tokens


class InputProjection(nn.Module):
    """Projects each modality to one width and fills in absent modalities.

    Args:
        dims: Width of each modality's features, in the order of the columns of `present`.
        width: Width of the output tokens.
        dropout: Probability of dropping each modality of each row in training, 0 <= dropout < 1.
        normed: Whether LayerNorm follows the projection.

    Raises:
        ConfigError: If there is no modality, a name cannot be used or a number is out of range.
    """

    def __init__(self, dims: Mapping[str, int], width: int, dropout: float, normed: bool = True) -> None:
        super().__init__()
        _check(dims, width, dropout)
        self.columns = {name: number for number, name in enumerate(dims)}
        self.dims = dict(dims)
        self.width = width
        self.dropout = dropout
        self.modalities = tuple(sorted(dims))
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(dims[name], width), nn.LayerNorm(width) if normed else nn.Identity()
                )
                for name in self.modalities
            }
        )
        self.absent = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width)) for name in self.modalities}
        )  # of the norm of real tokens

    def forward(
        self, features: Mapping[str, Tokens], present: Bool[Tensor, "B M"] | None = None
    ) -> dict[str, Tokens]:
        """Return tokens of every modality, sorted by name; each row has a real token of each.

        Raises:
            UsageError: If features and `present` do not fit each other or `dims`.
        """
        num_rows = self._check_inputs(features, present)
        has = {name: self._present(name, features, present, num_rows) for name in self.modalities}
        return {
            name: self._project(name, features[name], has[name])
            if name in features and features[name].mask.shape[1]
            else self._absent(name, num_rows)
            for name in self.modalities
        }

    def _project(self, name: str, given: Tokens, has: Bool[Tensor, " B"]) -> Tokens:
        real = given.mask & has[:, None]
        clean = torch.where(real[..., None], given.values, 0)
        values = torch.where(has[:, None, None], self.project[name](clean), self.absent[name])
        first = torch.arange(real.shape[1], device=real.device) == 0
        return Tokens(values, torch.where(has[:, None], real, first))

    def _absent(self, name: str, num_rows: int) -> Tokens:
        absent = self.absent[name]
        mask = torch.ones(num_rows, 1, dtype=torch.bool, device=absent.device)
        return Tokens(absent.expand(num_rows, 1, -1), mask)

    def _present(
        self,
        name: str,
        features: Mapping[str, Tokens],
        present: Bool[Tensor, "B M"] | None,
        num_rows: int,
    ) -> Bool[Tensor, " B"]:
        """Mask of the rows that have the modality, after dropout in training."""
        device = self.absent[name].device
        has = torch.zeros(num_rows, dtype=torch.bool, device=device)
        if name in features:
            has = features[name].mask.any(dim=1)
        if present is not None:
            has = has & present[:, self.columns[name]]
        if self.training and self.dropout:
            has = has & (torch.rand(num_rows, device=device) >= self.dropout)
        return has

    def _check_inputs(self, features: Mapping[str, Tokens], present: Tensor | None) -> int:
        if not features:
            raise UsageError(f"no features; give at least one of {', '.join(self.columns)}")
        unknown = sorted(features.keys() - self.dims.keys())
        if unknown:
            raise UsageError(f"features of '{unknown[0]}', but the fusion has {', '.join(self.columns)}")
        num_rows = len(next(iter(features.values())).values)
        for name, given in features.items():
            _check_shape(name, given, (num_rows, self.dims[name]))
        if present is not None and (
            present.shape != (num_rows, len(self.dims)) or present.dtype != torch.bool
        ):
            raise UsageError(
                f"present is {present.dtype} {tuple(present.shape)}; expected torch.bool "
                f"{(num_rows, len(self.dims))}, columns {', '.join(self.columns)}"
            )
        return num_rows


def _check_shape(name: str, given: Tokens, expected: tuple[int, int]) -> None:
    values, mask = given.values, given.mask
    if values.ndim != 3 or (values.shape[0], values.shape[2]) != expected:
        raise UsageError(
            f"features of '{name}' are {tuple(values.shape)}; expected ({expected[0]}, N, {expected[1]})"
        )
    if mask.shape != values.shape[:2]:
        raise UsageError(
            f"mask of '{name}' is {tuple(mask.shape)}; expected {tuple(values.shape[:2])} as its features"
        )


def _check(dims: Mapping[str, int], width: int, dropout: float) -> None:
    if not dims:
        raise ConfigError("dims is empty; give the width of at least one modality, as in {'image': 1280}")
    taken = nn.ModuleDict()
    for name, dim in dims.items():
        if not name or "." in name or hasattr(taken, name):
            raise ConfigError(f"'{name}' cannot name a modality; choose a plain word such as 'image'")
        if dim < 1:
            raise ConfigError(f"dims['{name}']={dim}; expected a width of at least 1")
    if width < 2 or not 0 <= dropout < 1:
        raise ConfigError(
            f"width={width}, modality_dropout={dropout}; expected width >= 2 and 0 <= modality_dropout < 1"
        )
