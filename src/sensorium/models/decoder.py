"""A writer: one decoder of a multimodal model, what its ids stand for, and where it starts and ends.

In: texts, or codes of an image or a sound. Out: the ids that a language model reads and writes. There are
three kinds: a finished language model by its name, frozen; a small one of our own over word pieces; and one
over the codes of a codec, whose ids are the codes, then one for the start and one for the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Int64
from pydantic import Field, model_validator
from torch import Tensor, nn

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat, Message, ids_of
from sensorium.core.config import Config
from sensorium.core.errors import UsageError
from sensorium.models.adapters import adapter_names, add_low_rank, with_memory
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.models.pretrained.library import open_text_model
from sensorium.models.pretrained.text_model import TextModel
from sensorium.nn.block import BlockConfig
from sensorium.nn.position import sinusoidal_grid

_HEAD_DIM = 32
_WAVES = 0.05
"""Size of the waves that places start as, beside embeddings of .02."""


class WriterConfig(Config):
    """A decoder: one of `pretrained`, `tokenizer_json` and `num_codes`.

    Attributes:
        pretrained: Name, folder or file of a finished language model; it stays frozen.
        low_rank: Width of low-rank adapters in its self-attention; 0: none.
        memory_last: How many of the last blocks look at the memory; None: all.
        tokenizer_json: Word pieces of a small text decoder, as `codecs.bpe` trains them.
        codec: What makes media of codes: a name or a folder. Nothing here loads it.
        num_codes: How many codes it has.
        width: Width of a decoder of our own.
        depth: Its blocks.
        num_heads: Its attention heads; default one for each 32 of width.
        dropout: Of each part's output, in training.
        prompted: Whether the instruction stands before the answer; otherwise it reaches the writer by the
            memory alone, which needs a text encoder.
        pace: Places of the memory that are read while one id is written, about, where it is read from end to
            end: texts that are spoken, speech that is written down. 0: where it is not. See `nn.attention`.
        focus: With a pace: how much sharper its last head begins to look than its first, as a logarithm. What
            is copied letter by letter or piece by piece wants some that look at one place.
        forget: Share of what it has written that it does not see in training, so that it learns to look at
            the memory: in speech, what was said last tells most of what comes next (arXiv:1511.06349,
            section 3.1). Of each picture another share, up to this: a place is told from the text alone, or
            from more or less of what stands before it too.
        guidance: How much more than it learned to it follows the memory when it writes; 1: as it learned. See
            `generation.GuidedDecoder`. Needs training in which memories are hidden (`modality_dropout`).
        num_places: Ids whose places are learned, beside rotary positions: the start's and those of a
            picture's codes, so that "at the top" is somewhere. 0: those of texts and sounds.
        gated: Whether its cross-attention passes a gate that starts at 0; a finished model's always does.
    """

    pretrained: str = ""
    low_rank: int = Field(default=0, ge=0)
    memory_last: int | None = Field(default=None, ge=1)
    tokenizer_json: str = ""
    codec: str = ""
    num_codes: int = Field(default=0, ge=0)
    width: int = Field(default=192, ge=2)
    depth: int = Field(default=3, ge=1)
    num_heads: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    prompted: bool = True
    pace: float = Field(default=0.0, ge=0)
    focus: float = Field(default=0.0, ge=0)
    forget: float = Field(default=0.0, ge=0, lt=1)
    guidance: float = Field(default=1.0, ge=1)
    num_places: int = Field(default=0, ge=0)
    gated: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> WriterConfig:
        if sum(map(bool, (self.pretrained, self.tokenizer_json, self.num_codes))) > 1:
            raise ValueError("pretrained, tokenizer_json and num_codes name different kinds; give one")
        if self.pretrained and (self.forget or self.pace):
            raise ValueError("forget and pace are for a writer of our own; a finished model stays as it came")
        if self.focus and not self.pace:
            raise ValueError("focus sharpens a writer that has a pace; give one, or leave focus out")
        if self.low_rank and not self.pretrained:
            raise ValueError("low_rank adapts a pretrained model; one of our own trains as a whole")
        if self.num_places and not self.num_codes:
            raise ValueError("num_places goes with num_codes: a picture has as many places as codes, and one")
        return self


@dataclass(frozen=True)
class Vocabulary:
    """What ids stand for, and where a sequence starts and ends.

    Attributes:
        size: How many ids there are.
        start: Ids that every sequence begins with, where no chat lays it out.
        end_ids: Ids after which all is said; the first is what a writer learns to write.
        tokenizer: Text to ids and back; None where ids are codes.
        chat: How a finished model's prompts are laid out; None for others.
    """

    size: int
    start: tuple[int, ...]
    end_ids: tuple[int, ...]
    tokenizer: Bpe | None = None
    chat: Chat | None = None

    @classmethod
    def of_codes(cls, num_codes: int) -> Vocabulary:
        """The codes themselves, then one id for the start and one for the end."""
        return cls(num_codes + 2, (num_codes,), (num_codes + 1,))

    @classmethod
    def of_pieces(cls, tokenizer: Bpe) -> Vocabulary:
        """Word pieces, with the start and the end that the tokenizer itself adds."""
        start, end = tokenizer.encode("")
        return cls(tokenizer.vocab_size, (start,), (end,), tokenizer)

    @classmethod
    def of_model(cls, found: TextModel) -> Vocabulary:
        """That of a finished model."""
        of_turn = None if found.chat is None else found.chat.turn_end  # others end documents, not turns
        ends = sorted(found.end_ids, key=lambda one: (one != of_turn, one))
        return cls(found.model.config.vocab_size, (), tuple(ends), found.tokenizer, found.chat)

    def __deepcopy__(self, memo: dict[int, object]) -> Vocabulary:
        return self  # nothing in it changes, and a template cannot be copied


class Writer(nn.Module):
    """A language model with its vocabulary.

    Args:
        config: Which.
        memory_dim: Width of the memory that it attends to; 0: none.

    Attributes:
        model: What computes.
        vocabulary: What its ids stand for.

    Raises:
        UsageError: If the configuration says of no vocabulary.
    """

    def __init__(self, config: WriterConfig, memory_dim: int) -> None:
        super().__init__()
        self.config = config
        if config.pretrained:
            found = open_text_model(config.pretrained)
            self.vocabulary = Vocabulary.of_model(found)
            self.model = with_memory(found.model, memory_dim, config.memory_last)
            add_low_rank(self.model, config.low_rank)
            return
        if config.tokenizer_json:
            self.vocabulary = Vocabulary.of_pieces(Bpe(config.tokenizer_json))
        elif config.num_codes:
            self.vocabulary = Vocabulary.of_codes(config.num_codes)
        else:
            raise UsageError("a decoder without vocabulary; give pretrained, tokenizer_json or num_codes")
        self.model = _small(config, self.vocabulary.size, memory_dim)

    @property
    def tokenizer(self) -> Bpe | None:
        """Text to ids and back; None where ids are codes."""
        return self.vocabulary.tokenizer

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids after which all is said."""
        return self.vocabulary.end_ids

    def prompt_ids(self, text: str = "") -> list[int]:
        """Ids of what stands before the answer: the start, and `text` where it is prompted by word pieces."""
        known = self.vocabulary
        if known.tokenizer is None or not self.config.prompted:
            return list(known.start)
        if known.chat is not None:
            return ids_of(known.chat.encode([Message("user", text)]))
        return [*known.start, *known.tokenizer.encode(text, with_special=False)]

    def answer_ids(self, answer: str | Sequence[int]) -> list[int]:
        """Ids of an answer, a text or codes, with the end after them.

        Raises:
            UsageError: If it is a text and ids are codes.
        """
        if isinstance(answer, str):
            if self.tokenizer is None:
                raise UsageError(f"this decoder writes codes, not the text '{answer}'")
            return [*self.tokenizer.encode(answer, with_special=False), self.end_ids[0]]
        return [*map(int, answer), self.end_ids[0]]

    def remembered(self, ids: Int64[Tensor, "R N"]) -> Int64[Tensor, "R N"]:
        """Ids of which, in training, some are forgotten: the start stands in for them."""
        if not self.training or not self.config.forget:
            return ids
        share = torch.full((len(ids), 1), self.config.forget, device=ids.device)
        if self.config.num_places:
            share *= torch.rand_like(share)
        is_gone = torch.rand(ids.shape, device=ids.device) < share
        return ids.masked_fill(is_gone, self.vocabulary.start[0])

    def named_elsewhere(self) -> set[str]:
        """Names, within `model`, of tensors that come with the finished model: no checkpoint holds them."""
        if not self.config.pretrained:
            return set()
        return {name for name, _ in self.model.named_parameters()} - set(adapter_names(self.model))


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
        memory_diagonal_slope=config.pace,
        memory_prior_sharpness=config.focus,
        dropout=config.dropout,
    )
    model = LanguageModel(
        LanguageModelConfig(
            vocab_size=vocab_size,
            block=block,
            depth=config.depth,
            memory_last=config.memory_last,
            num_positions=config.num_places,
        )
    )
    if model.positions is not None:
        _start_as_grid(model.positions.table)
    return model


@torch.no_grad()
def _start_as_grid(table: Tensor) -> None:
    """Let places of a square picture's codes start as its rows and columns; at place i id i is written."""
    side = isqrt(len(table) - 1)
    if side**2 == len(table) - 1 and table.shape[1] % 4 == 0:
        table[:-1] = _WAVES * sinusoidal_grid(side, table.shape[1])
