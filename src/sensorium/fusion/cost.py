"""Floating-point operations (FLOPs) of the layers of a fusion, for one row and one forward pass.

Counts as `torch.utils.flop_counter` does: matrix products and attention, two operations for a multiply-add.
Norms, activations and other element-wise work are not counted.
"""

from __future__ import annotations

from typing import cast

from torch import nn

from sensorium.nn.attention import Attention
from sensorium.nn.block import Block, Stack


def linear(module: nn.Module, num_tokens: int = 1) -> int:
    """FLOPs of all linear layers in `module`, each applied to `num_tokens` tokens.

    Example:
        >>> linear(nn.Linear(3, 5), num_tokens=7)
        210
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return 2 * num_tokens * sum(layer.weight.numel() for layer in layers)


def attention(module: Attention, num_queries: int, num_keys: int) -> int:
    """FLOPs of projections, scores and weighted values."""
    projections = linear(module.query, num_queries) + linear(module.out, num_queries)
    projections += linear(module.key, num_keys) + linear(module.value, num_keys)
    return projections + 4 * num_queries * num_keys * module.query.out_features


def block(module: Block, num_tokens: int, num_memory: int = 0) -> int:
    """FLOPs of self-attention, cross-attention if the block has it, and MLP."""
    total = attention(module.attention, num_tokens, num_tokens) + linear(module.mlp, num_tokens)
    if module.memory_attention is not None:
        total += attention(module.memory_attention, num_tokens, num_memory)
    return total


def stack(module: Stack, num_tokens: int, num_memory: int = 0) -> int:
    """FLOPs of all blocks."""
    return sum(block(cast(Block, one), num_tokens, num_memory) for one in module.blocks)
