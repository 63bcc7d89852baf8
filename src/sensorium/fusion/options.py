"""What several fusions ask of their options, and what they make of them."""

from __future__ import annotations

from sensorium.core.config import parse
from sensorium.core.errors import ConfigError
from sensorium.nn.block import BlockConfig

_HEAD_DIM = 32


def check_least(least: int = 1, **options: int) -> None:
    """Refuse options below `least`.

    Raises:
        ConfigError: Naming the first.
    """
    for name, value in options.items():
        if value < least:
            raise ConfigError(f"{name}={value}; expected at least {least}")


def block_config(
    width: int, num_heads: int | None, mlp_dim: int | None, dropout: float, **more: object
) -> BlockConfig:
    """Blocks of a fusion; one head for each 32 of the width where nothing else is asked.

    Raises:
        ConfigError: If a number is out of range.
    """
    if num_heads is None:
        num_heads = width // _HEAD_DIM if width % _HEAD_DIM == 0 else 1
    check_least(num_heads=num_heads, mlp_dim=1 if mlp_dim is None else mlp_dim)
    values = {"dim": width, "num_heads": num_heads, "mlp_dim": mlp_dim, "dropout": dropout, **more}
    return parse(BlockConfig, values, "fusion")
