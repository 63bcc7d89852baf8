"""Speech recogniser: Whisper's encoder, and a language model with cross-attention to its output.

    memory = encoder(frames)                     (B, N, D), 50 tokens a second
    h = decoder(ids so far, memory)              causal self-attention and cross-attention in every block

Input: log-mel frames (B, T, M) of whole windows. Output: keys and values for the decoder, and cross-attention
weights of a given text (arXiv:2212.04356, figure 1). Does not know what ids mean, how they are sampled, or
files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from sensorium.core.config import Config
from sensorium.encoders.pretrained.whisper import WhisperEncoder, WhisperShape
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.nn.attention import Attention, KeyValues, attention_weights
from sensorium.nn.block import Block


class RecogniserConfig(Config):
    """Configuration of a recogniser.

    Attributes:
        encoder: Sizes of the encoder.
        decoder: Decoder with a memory as wide as the encoder.
    """

    encoder: WhisperShape = Field(default_factory=WhisperShape)
    decoder: LanguageModelConfig


class Recogniser(nn.Module):
    """Audio encoder and text decoder.

    Args:
        config: Configuration. Weights are drawn from torch's global generator.
    """

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WhisperEncoder(shape=config.encoder)
        self.decoder = LanguageModel(config.decoder)

    @property
    def window_frames(self) -> int:
        """Log-mel frames of a window: 3,000 (30 s) for Whisper."""
        return 2 * self.config.encoder.num_positions

    def encode(self, frames: Float32[Tensor, "B T M"]) -> list[KeyValues | None]:
        """Encode windows, and project them to keys and values for every block of the decoder."""
        memory = self.encoder.encode_window(frames.to(self.encoder.first.weight))
        return self.decoder.memory_key_values(memory.to(self.decoder.embedding.weight))

    def cross_attention(
        self,
        ids: Int64[Tensor, "B N"],
        memory: Sequence[KeyValues | None],
        heads: Sequence[tuple[int, int]],
    ) -> tuple[Float32[Tensor, "B A N S"], Float[Tensor, "B N V"]]:
        """Weights of A pairs (block, head) for a text, with sum 1 over S, and the logits of the same pass."""
        taken: dict[int, Tensor] = {}
        hooks = []
        for number in {block for block, _ in heads}:
            attention = cast(Block, self.decoder.stack.blocks[number]).memory_attention
            assert attention is not None, "this block has no cross-attention"

            def keep(module: Attention, given: tuple[Any, ...], number: int = number) -> None:
                x, attended = given[:2]
                taken[number] = attention_weights(module.queries(x), attended)

            hooks.append(attention.register_forward_pre_hook(keep))
        try:
            logits = self.decoder.logits(self.decoder(self.decoder.embed(ids), memory=memory))
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack([taken[block][:, head] for block, head in heads], dim=1).float(), logits
