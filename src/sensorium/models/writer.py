"""A writer: one decoder of a multimodal model, what its ids stand for, and where it starts and ends.

In: texts, or codes of an image or a sound. Out: the ids that a language model reads and writes. There
are two kinds of our own: over word pieces, and over the codes of a codec, whose ids are the codes, then one
for the start and one for the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator
from torch import nn

from sensorium.codecs.bpe import Bpe
from sensorium.core.config import Config
from sensorium.core.errors import UsageError
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.nn.block import BlockConfig

_HEAD_DIM = 32


class WriterConfig(Config):
    """A decoder: one of `tokenizer_json` and `num_codes`.

    Attributes:
        memory_last: How many of its last blocks look at the memory; None: all.
        tokenizer_json: Word pieces of a small text decoder, as `codecs.bpe` trains them.
        codec: What makes media of codes: a name or a folder. Nothing here loads it.
        num_codes: How many codes it has.
        width: Width of a decoder of our own.
        depth: Its blocks.
        num_heads: Its attention heads; default one for each 32 of width.
        dropout: Of each part's output, in training.
        prompted: Whether the instruction stands before the answer; otherwise it reaches the writer by the
            memory alone, which needs a text encoder.
        gated: Whether its cross-attention passes a gate that starts at 0.
    """

    memory_last: int | None = Field(default=None, ge=1)
    tokenizer_json: str = ""
    codec: str = ""
    num_codes: int = Field(default=0, ge=0)
    width: int = Field(default=192, ge=2)
    depth: int = Field(default=3, ge=1)
    num_heads: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    prompted: bool = True
    gated: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> WriterConfig:
        if self.tokenizer_json and self.num_codes:
            raise ValueError("tokenizer_json and num_codes name different kinds; give one")
        return self


class Writer(nn.Module):
    """A language model with its vocabulary.

    Args:
        config: Which.
        memory_dim: Width of the memory that it attends to; 0: none.

    Attributes:
        model: What computes.
        tokenizer: Text to ids and back; None where ids are codes.
        start: Ids that every sequence begins with.
        end_ids: Ids after which it has said all; the first is what it learns to write.

    Raises:
        UsageError: If the configuration says of no vocabulary.
    """

    def __init__(self, config: WriterConfig, memory_dim: int) -> None:
        super().__init__()
        self.config = config
        self.tokenizer: Bpe | None = None
        if config.tokenizer_json:
            self.tokenizer = Bpe(config.tokenizer_json)
            start, end = self.tokenizer.encode("")
            self.start: tuple[int, ...] = (start,)
            self.end_ids: tuple[int, ...] = (end,)
            self.model = _small(config, self.tokenizer.vocab_size, memory_dim)
        elif config.num_codes:
            self.start, self.end_ids = (config.num_codes,), (config.num_codes + 1,)
            self.model = _small(config, config.num_codes + 2, memory_dim)
        else:
            raise UsageError("a decoder without vocabulary; give tokenizer_json or num_codes")

    def prompt_ids(self, text: str = "") -> list[int]:
        """Ids of what stands before the answer: the start, and `text` where it is prompted by word pieces."""
        if self.tokenizer is None or not self.config.prompted:
            return list(self.start)
        return [*self.start, *self.tokenizer.encode(text, with_special=False)]

    def answer_ids(self, answer: str | Sequence[int]) -> list[int]:
        """Ids of an answer, a text or codes, with the end after them."""
        if isinstance(answer, str):
            if self.tokenizer is None:
                raise UsageError(f"this decoder writes codes, not the text '{answer}'")
            return [*self.tokenizer.encode(answer, with_special=False), self.end_ids[0]]
        return [*map(int, answer), self.end_ids[0]]


def _small(config: WriterConfig, vocab_size: int, memory_dim: int) -> LanguageModel:
    block = BlockConfig(
        dim=config.width,
        num_heads=max(1, config.width // _HEAD_DIM) if config.num_heads is None else config.num_heads,
        norm="rms",
        mlp="swiglu",
        mlp_dim=round(config.width * 8 / 3 / 8) * 8,
        qkv_bias=False,
        out_bias=False,
        is_causal=True,
        rotary_axes=1,
        memory_dim=memory_dim,
        gated_memory=config.gated,
        dropout=config.dropout,
    )
    return LanguageModel(
        LanguageModelConfig(
            vocab_size=vocab_size, block=block, depth=config.depth, memory_last=config.memory_last
        )
    )
