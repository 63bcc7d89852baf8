"""How a finished decoder learns to look at a memory, and stays what it was.

In: a language model as it came. Out: one whose last blocks have cross-attention behind a gate at 0, and,
where asked for, low-rank adapters; all that it came with is frozen. Until it trains, its logits are those of
the model that it was, bit for bit (Flamingo, arXiv:2204.14198, section 3.2; `nn.block`, `nn.lora`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from sensorium.models.language_model import LanguageModel
from sensorium.nn.lora import LoRALinear, adapt

LORA_LAYERS = ("query", "value")


def with_memory(model: LanguageModel, memory_dim: int, last: int | None = None) -> LanguageModel:
    """Build the same decoder with cross-attention; it takes over the weights, frozen.

    Args:
        model: As it came, without cross-attention.
        memory_dim: Width of the memory; 0: no cross-attention, for a memory that stands before the text.
        last: How many of the last blocks look at the memory; None: all.
    """
    block = model.config.block.model_copy(update={"memory_dim": memory_dim, "gated_memory": True})
    config = model.config.model_copy(update={"block": block, "memory_last": last})
    twin = LanguageModel(config)
    state = model.state_dict()
    twin.load_state_dict(state, strict=False)
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(name not in state)
    return twin


def add_low_rank(model: LanguageModel, rank: int, layers: Sequence[str] = LORA_LAYERS) -> None:
    """Put low-rank adapters on the self-attention of every block; `rank` 0 puts none."""
    for block in model.stack.blocks if rank else ():
        adapt(block.get_submodule("attention"), layers, rank)


def adapter_names(model: nn.Module) -> Iterator[str]:
    """Names of the parameters that were added to a decoder: gates, cross-attention, low-rank matrices."""
    adapted = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, LoRALinear))
    for name, _ in model.named_parameters():
        last = name.rpartition(".")[2]
        if ".memory_" in name or (name.startswith(adapted) and last in ("down", "up")):
            yield name
