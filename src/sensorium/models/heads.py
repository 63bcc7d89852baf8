"""Heads: from an encoder's pooled vector to the joint space, (B, D) -> (B, E), not yet of unit length.

A head is the only thing that trains over a locked tower, so it normalises what it is given: towers differ by
orders of magnitude in scale. Does not know modalities, losses or the length of the vectors it gives.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.errors import ConfigError
from sensorium.core.registry import Registry

HEADS: Registry[nn.Module] = Registry("head")
"""Builders `(in_dim, out_dim, **options) -> nn.Module` with `forward((B, in_dim)) -> (B, out_dim)`."""


@HEADS.register("identity")
class IdentityHead(nn.Module):
    """y = x: a locked encoder's own space is the joint space, and the other towers learn the way into it.

    With little data this is the best text head over a sentence encoder: there is nothing to forget.

    Args:
        in_dim: Width D of the encoder.
        out_dim: Width E of the joint space; must equal `in_dim`.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        if in_dim != out_dim:
            raise ConfigError(
                f"head 'identity' keeps the encoder's width {in_dim}, got dim={out_dim}; "
                f"set model.dim = {in_dim}, or take another head"
            )

    def forward(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Return pooled vectors as they are."""
        return pooled


@HEADS.register("linear")
class LinearHead(nn.Module):
    """y = W LayerNorm(x): CLIP's projection.

    Args:
        in_dim: Width D of the encoder.
        out_dim: Width E of the joint space.
        dropout: Share of inputs dropped in training, in [0, 1).
        standardise: Give each coordinate of y mean 0 and variance 1 in training. Vectors of random weights
            point one way, of names that share words most of all, and a contrast takes long to part them.

    Reference:
        Radford et al., arXiv 2103.00020, §2.3: a linear map alone. The norm is ours, for locked towers.
        Batch norm as the last layer: Chen and He (SimSiam), arXiv 2011.10566, §4.4.
    """

    def __init__(self, in_dim: int, out_dim: int, *, dropout: float = 0.0, standardise: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dim)
        self.dropout = nn.Dropout(_checked_share(dropout))
        self.project = nn.Linear(in_dim, out_dim, bias=False)
        self.last = nn.BatchNorm1d(out_dim, affine=False) if standardise else None

    def forward(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Project pooled vectors."""
        projected: Tensor = self.project(self.dropout(self.norm(pooled)))
        if self.last is None:
            return projected
        alone = self.training and len(projected) < 2  # a single row has no variance
        standard: Tensor = self.last.eval()(projected) if alone else self.last.train(self.training)(projected)
        return standard


@HEADS.register("residual-mlp")
class ResidualMlpHead(nn.Module):
    """Residual blocks between two linear maps.

    h = W_in LayerNorm(x); h += MLP_i(LayerNorm(h)) for each block; y = W_out LayerNorm(h).

    Args:
        in_dim: Width D of the encoder.
        out_dim: Width E of the joint space.
        width: Width of the residual stream; `out_dim` where None.
        num_blocks: Residual blocks.
        expansion: Hidden width of a block as a multiple of `width`.
        dropout: Share dropped after each hidden layer, in [0, 1).
        input_dropout: Share of the encoder's features dropped in training, in [0, 1).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        width: int | None = None,
        num_blocks: int = 1,
        expansion: float = 2.0,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = out_dim if width is None else width
        if width < 1 or num_blocks < 0 or expansion <= 0:
            raise ConfigError(
                f"head 'residual-mlp': width={width}, num_blocks={num_blocks}, expansion={expansion}; "
                "expected width >= 1, num_blocks >= 0, expansion > 0"
            )
        hidden = max(1, round(width * expansion))
        self.enter = nn.Sequential(
            nn.LayerNorm(in_dim), nn.Dropout(_checked_share(input_dropout)), nn.Linear(in_dim, width)
        )
        self.blocks = nn.ModuleList(_block(width, hidden, _checked_share(dropout)) for _ in range(num_blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_dim, bias=False))

    def forward(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Project pooled vectors."""
        hidden: Tensor = self.enter(pooled)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        projected: Tensor = self.leave(hidden)
        return projected


def _block(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, width),
        nn.Dropout(dropout),
    )


def _checked_share(share: float) -> float:
    if not 0 <= share < 1:
        raise ConfigError(f"dropout={share} is not a share; expected 0 <= dropout < 1")
    return share
