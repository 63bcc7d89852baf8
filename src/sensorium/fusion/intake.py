"""Where features enter a fusion: unequal widths and lengths in, tokens of one width with no gap out.

    x_m = LayerNorm(W_m f_m + b_m)      where the row has modality m
    x_m = a_m                           one learned absent token where it has not

Absent is a modality that the mapping lacks, that `present` denies, or that has no real token. The norm comes
after the projection, for encoders differ by orders of magnitude in scale; its bias tells the modalities
apart. Masked and absent features are replaced by zeros before anything is computed, so that not even a NaN
in them is seen. In training each modality of each row is dropped with the same chance, independently
(ModDrop, arXiv:1501.00102): the absent tokens learn from that, and a row that loses all teaches the output
for a row with nothing. The order of tokens is not known here: encoders put positions into their tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import Tokens


class Intake(nn.Module):
    """Project each modality to one width and fill in what is absent.

    Args:
        dims: Width of each modality's features; its order is that of the columns of `present`.
        width: Width of the tokens that leave.
        dropout: Chance for each modality of each row to be treated as absent in training, 0 <= dropout < 1.

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
        )  # of the size that the norm gives to real tokens

    def forward(
        self, features: Mapping[str, Tokens], present: Bool[Tensor, "B M"] | None = None
    ) -> dict[str, Tokens]:
        """Return tokens of every modality, sorted by name, at least one of them real in each row.

        Raises:
            UsageError: If features and `present` do not fit each other or `dims`.
        """
        num_rows = self._check_inputs(features, present)
        here = {name: self._here(name, features, present, num_rows) for name in self.modalities}
        return {
            name: self._enter(name, features[name], here[name])
            if name in features and features[name].mask.shape[1]
            else self._all_absent(name, num_rows)
            for name in self.modalities
        }

    def _enter(self, name: str, given: Tokens, here: Bool[Tensor, " B"]) -> Tokens:
        real = given.mask & here[:, None]
        clean = torch.where(real[..., None], given.values, 0)
        values = torch.where(here[:, None, None], self.project[name](clean), self.absent[name])
        first = torch.arange(real.shape[1], device=real.device) == 0
        return Tokens(values, torch.where(here[:, None], real, first))

    def _all_absent(self, name: str, num_rows: int) -> Tokens:
        absent = self.absent[name]
        mask = torch.ones(num_rows, 1, dtype=torch.bool, device=absent.device)
        return Tokens(absent.expand(num_rows, 1, -1), mask)

    def _here(
        self,
        name: str,
        features: Mapping[str, Tokens],
        present: Bool[Tensor, "B M"] | None,
        num_rows: int,
    ) -> Bool[Tensor, " B"]:
        """Which rows have the modality, after dropout in training."""
        device = self.absent[name].device
        here = torch.zeros(num_rows, dtype=torch.bool, device=device)
        if name in features:
            here = features[name].mask.any(dim=1)
        if present is not None:
            here = here & present[:, self.columns[name]]
        if self.training and self.dropout:
            here = here & (torch.rand(num_rows, device=device) >= self.dropout)
        return here

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
