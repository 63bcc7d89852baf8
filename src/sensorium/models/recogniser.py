"""A recogniser of speech: an encoder hears, and a decoder attends to what was heard while it writes.

    memory = encoder(frames)                     (B, N, D), 50 tokens a second
    h = decoder(ids so far, memory)              causal self-attention and cross-attention in every block

In: log-mel frames (B, T, M) of whole windows. Out: what the decoder attends to, and, once a text is known,
how much each of its ids looked at each moment. The encoder is Whisper's, the decoder a `LanguageModel`
(arXiv:2212.04356, figure 1). Does not know what ids mean, how the next one is chosen, or files.
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
    """Sizes of both halves.

    Attributes:
        encoder: Of the encoder.
        decoder: Of the decoder; its blocks attend to a memory as wide as the encoder.
    """

    encoder: WhisperShape = Field(default_factory=WhisperShape)
    decoder: LanguageModelConfig


class Recogniser(nn.Module):
    """An encoder of sound and a decoder of text.

    Args:
        config: What to build. Weights come from torch's global generator.
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

    def listen(self, frames: Float32[Tensor, "B T M"]) -> list[KeyValues | None]:
        """Encode windows and project them once for the cross-attention of every block."""
        heard = self.encoder.encode_window(frames.to(self.encoder.first.weight))
        return self.decoder.memory_key_values(heard.to(self.decoder.embedding.weight))

    def shares(
        self,
        ids: Int64[Tensor, "B N"],
        memory: Sequence[KeyValues | None],
        heads: Sequence[tuple[int, int]],
    ) -> tuple[Float32[Tensor, "B A N S"], Float[Tensor, "B N V"]]:
        """How much of the attention of chosen heads goes to each token of the memory.

        Args:
            ids: What was written.
            memory: From `listen`.
            heads: A pairs of block and head.

        Returns:
            Shares, which sum to 1 over S, and the logits of the same pass.
        """
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
