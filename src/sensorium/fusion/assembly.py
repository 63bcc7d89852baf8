"""A fusion as a whole: features of any subset of modalities in, one vector and one sequence out.

In: `Tokens` of each modality, of any width and length, and which rows have which. Out: a `FusionOutput`.
`build` puts an `Intake` before a mixer of the registry; all that concerns absent modalities is in the first,
all that concerns their meeting in the second. It knows neither encoders nor what the vector is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.intake import Intake
from sensorium.fusion.registry import FUSIONS, FusionOutput, Mixer

_WIDTH_STEP = 32


def build(
    name: str,
    dims: Mapping[str, int],
    out_dim: int,
    *,
    width: int | None = None,
    modality_dropout: float = 0.1,
    normed: bool = True,
    **options: object,
) -> Fusion:
    """Build a fusion by name.

    Args:
        name: Of `FUSIONS`: concat, weighted, gated, tensor, lowrank, cross_attention, mult, bottleneck,
            transformer.
        dims: Width of each modality's features, by its name; any number of modalities.
        out_dim: Width E of what comes out.
        width: Width within; default `out_dim`, rounded up to a multiple of 32.
        modality_dropout: Chance for each modality of each row to be hidden in training; without any, what a
            fusion gives for an absent modality is not learned unless rows of the data lack it.
        normed: Bring tokens of all modalities to one size; without, where they stand and what they are may
            weigh differently (False where these come from a model that was trained so).
        options: The fusion's own; see its class.

    Raises:
        NotFoundError: If there is no such fusion.
        UsageError: If it does not take an option.
        ConfigError: If a number is out of range.

    Example:
        >>> import torch
        >>> fuse = build("transformer", {"image": 1280, "text": 384}, out_dim=64).eval()
        >>> words = Tokens(torch.randn(2, 5, 384), torch.ones(2, 5, dtype=torch.bool))
        >>> fuse({"text": words}).pooled.shape  # no picture: its absent token stands in
        torch.Size([2, 64])
    """
    if out_dim < 1:
        raise ConfigError(f"out_dim={out_dim}; expected at least 1")
    width = -(-out_dim // _WIDTH_STEP) * _WIDTH_STEP if width is None else width
    intake = Intake(dims, width, modality_dropout, normed)
    mixer = FUSIONS.build(name, modalities=intake.modalities, width=width, out_dim=out_dim, **options)
    return Fusion(name, intake, mixer, out_dim)


class Fusion(nn.Module):
    """Intake and mixer; made by `build`.

    Attributes:
        name: Under which the mixer is registered.
        modalities: In the order of `dims`: the columns of `present` and of `weights`.
        dims: Width of each modality's features.
        out_dim: Width E of what comes out.
    """

    def __init__(self, name: str, intake: Intake, mixer: Mixer, out_dim: int) -> None:
        super().__init__()
        self.name = name
        self.intake = intake
        self.mixer = mixer
        self.modalities = tuple(intake.dims)
        self.dims = intake.dims
        self.out_dim = out_dim

    def forward(
        self, features: Mapping[str, Tokens], present: Bool[Tensor, "B M"] | None = None
    ) -> FusionOutput:
        """Fuse the modalities of each row.

        A row without any modality is fused from the absent tokens alone: it gives the same learned vector as
        every other such row, what the fusion expects when it knows nothing.

        Args:
            features: Tokens (B, N_m, D_m) of each modality, in any order; one that no row has may be missing.
            present: Which rows have which modality, columns as `modalities`; None = all that have a real
                token. What an absent modality holds is never seen.

        Raises:
            UsageError: If shapes or names do not fit.
        """
        out = self.mixer(self.intake(features, present))
        if out.weights is None:
            return out
        columns = [self.intake.modalities.index(name) for name in self.modalities]
        return replace(out, weights=out.weights[:, columns])

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Floating-point operations of one forward pass of one row (a multiply-add is two; see `cost`).

        Args:
            lengths: Tokens of each modality; one that is left out or 0 is absent and costs its absent token.

        Raises:
            UsageError: If a name is not one of the fusion.
        """
        unknown = sorted(lengths.keys() - self.dims.keys())
        if unknown:
            raise UsageError(f"length of '{unknown[0]}', but the fusion has {', '.join(self.modalities)}")
        given = {name: lengths.get(name, 0) for name in self.intake.modalities}
        entering = sum(cost.linear(self.intake.project[name], num) for name, num in given.items())
        return entering + self.mixer.flops({name: max(1, num) for name, num in given.items()})
