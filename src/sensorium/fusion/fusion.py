"""Complete fusion module: an input projection, then a fusion of the registry.

Input: `Tokens` of any subset of modalities, of any width and length, and which rows have which. Output: a
`FusionOutput`. `InputProjection` handles unequal widths and absent modalities; the mixer fuses them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import Tokens
from sensorium.fusion.projection import InputProjection
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
        dims: Width of each modality's features, by name; any number of modalities.
        out_dim: Width E of the output.
        width: Inner width; default `out_dim`, rounded up to a multiple of 32.
        modality_dropout: Probability of dropping each modality of each row in training. With 0, absent tokens
            are learned only if rows of the data lack a modality.
        normed: Apply LayerNorm to the projected tokens. False if weights come from a model without it.
        options: Options of the fusion; see its class.

    Raises:
        NotFoundError: If there is no such fusion.
        UsageError: If it does not take an option.
        ConfigError: If a number is out of range.

    Example:
        >>> import torch
        >>> fuse = build("transformer", {"image": 1280, "text": 384}, out_dim=64).eval()
        >>> words = Tokens(torch.randn(2, 5, 384), torch.ones(2, 5, dtype=torch.bool))
        >>> fuse({"text": words}).pooled.shape  # no image: its absent token is used
        torch.Size([2, 64])
    """
    if out_dim < 1:
        raise ConfigError(f"out_dim={out_dim}; expected at least 1")
    width = -(-out_dim // _WIDTH_STEP) * _WIDTH_STEP if width is None else width
    projection = InputProjection(dims, width, modality_dropout, normed)
    mixer = FUSIONS.build(name, modalities=projection.modalities, width=width, out_dim=out_dim, **options)
    return Fusion(name, projection, mixer, out_dim)


class Fusion(nn.Module):
    """Input projection and mixer; made by `build`.

    Attributes:
        name: Name of the mixer in `FUSIONS`.
        modalities: In the order of `dims`, which is that of the columns of `present` and of `weights`.
        dims: Width of each modality's features.
        out_dim: Width E of the output.
    """

    def __init__(self, name: str, projection: InputProjection, mixer: Mixer, out_dim: int) -> None:
        super().__init__()
        self.name = name
        self.intake = projection  # the name in checkpoints
        self.mixer = mixer
        self.modalities = tuple(projection.dims)
        self.dims = projection.dims
        self.out_dim = out_dim

    def forward(
        self, features: Mapping[str, Tokens], present: Bool[Tensor, "B M"] | None = None
    ) -> FusionOutput:
        """Fuse the modalities of each row.

        A row without any modality is fused from the absent tokens alone; all such rows have the same output.

        Args:
            features: Tokens (B, N_m, D_m) by modality; modalities that no row has may be missing.
            present: True = the row has the modality, columns as `modalities`. None: it has those modalities
                with a real token. Values of absent modalities are ignored.

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
        """Number of learned parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Floating-point operations of a forward pass of one row, by `torch.utils.flop_counter`.

        Matrix products and attention are counted, two operations for a multiply-add.

        Args:
            lengths: Tokens of each modality; a modality with 0 or no entry costs its absent token.

        Raises:
            UsageError: If a name is not one of the fusion.
        """
        unknown = sorted(lengths.keys() - self.dims.keys())
        if unknown:
            raise UsageError(f"length of '{unknown[0]}', but the fusion has {', '.join(self.modalities)}")
        fusion = copy.deepcopy(self).float().cpu().eval().requires_grad_(False)
        features = {}
        for name, dim in self.dims.items():
            num = lengths.get(name, 0)
            features[name] = Tokens(torch.zeros(1, num, dim), torch.ones(1, num, dtype=torch.bool))
        # The counter does not know the fused attention kernels of the CPU.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            fusion(features)
        return int(counter.get_total_flops())
