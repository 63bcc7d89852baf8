"""One decoder of a multimodal model: a `LanguageModel`, its vocabulary, and its start and end ids.

Input: texts, or codec ids of an image or a sound. Output: the ids that the language model reads and writes.
There are three kinds of decoder:

    pretrained       a public language model, frozen, with added cross-attention and LoRA adapters
    tokenizer_json   a small Transformer over BPE tokens, trained from scratch
    num_codes        a small Transformer over codec ids; its ids are the codes, one start id and one end id

Added cross-attention has a gate that starts at 0, so that the logits of a pretrained model stay equal, bit
for bit, until training starts (Flamingo, arXiv:2204.14198, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from sensorium.models.language_model import LanguageModel, LanguageModelConfig
from sensorium.models.pretrained.text_model import TextModel, open_text_model
from sensorium.nn.block import BlockConfig
from sensorium.nn.lora import LoRALinear, adapt
from sensorium.nn.position import sinusoidal_grid

_HEAD_DIM = 32
_GRID_SCALE = 0.05
"""Scale of the initial position embeddings; token embeddings start with a deviation of 0.02."""
_OLD_KEYS = {
    "low_rank": "lora_rank",
    "pace": "diagonal_slope",
    "focus": "prior_sharpness",
    "forget": "token_dropout",
    "num_places": "num_positions",
    "gated": "gated_memory",
}
"""Keys of earlier releases, in recipes and in `config.toml` of checkpoints, with their names now."""


class DecoderConfig(Config):
    """Configuration of a decoder; sets at most one of `pretrained`, `tokenizer_json` and `num_codes`.

    Attributes:
        pretrained: Name, folder or file of a public language model; its weights stay frozen.
        lora_rank: Rank of LoRA adapters in its self-attention; 0: none.
        memory_last: Only the last n blocks have cross-attention; None: all.
        tokenizer_json: Tokenizer of a small text decoder, as `codecs.bpe` trains it.
        codec: Name or folder of the codec that turns ids into media. The model does not load it.
        num_codes: Number of codes of the codec.
        width: Width D of a decoder trained from scratch.
        depth: Number of its blocks.
        num_heads: Number of its attention heads; default: one per 32 of width.
        dropout: Dropout rate on each sublayer's output.
        prompted: Whether the prompt stands before the answer. If not, it reaches the decoder only through the
            memory, which needs a text encoder.
        diagonal_slope: Memory tokens per written id, for tasks that read the memory monotonically, such as
            speech; 0: no diagonal prior. See `nn.attention`.
        prior_sharpness: Initial log sharpness of the prior in the last head; the first head starts at 0.
        token_dropout: Share of the input ids that are replaced by the start id in training, so that the
            decoder relies on the memory (word dropout, arXiv:1511.06349, section 3.1). With `num_positions`,
            each sequence draws its own share, uniform up to this value.
        guidance: Scale of classifier-free guidance in generation; 1: none. See `generation.guided`. It needs
            a model trained with `modality_dropout`.
        num_positions: Number of learned absolute positions, beside rotary ones; 0: none. An image codec needs
            one per code and one for the start id.
        gated_memory: Whether cross-attention has a gate that starts at 0; always true for `pretrained`.
    """

    pretrained: str = ""
    lora_rank: int = Field(default=0, ge=0)
    memory_last: int | None = Field(default=None, ge=1)
    tokenizer_json: str = ""
    codec: str = ""
    num_codes: int = Field(default=0, ge=0)
    width: int = Field(default=192, ge=2)
    depth: int = Field(default=3, ge=1)
    num_heads: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    prompted: bool = True
    diagonal_slope: float = Field(default=0.0, ge=0)
    prior_sharpness: float = Field(default=0.0, ge=0)
    token_dropout: float = Field(default=0.0, ge=0, lt=1)
    guidance: float = Field(default=1.0, ge=1)
    num_positions: int = Field(default=0, ge=0)
    gated_memory: bool = False

    @model_validator(mode="before")
    @classmethod
    def _rename_old_keys(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        for old, new in _OLD_KEYS.items():
            if old in values and new in values:
                raise ValueError(f"'{old}' is the old name of '{new}'; give only '{new}'")
        return {_OLD_KEYS.get(key, key): value for key, value in values.items()}

    @model_validator(mode="after")
    def _check_kind(self) -> DecoderConfig:
        if sum(map(bool, (self.pretrained, self.tokenizer_json, self.num_codes))) > 1:
            raise ValueError("pretrained, tokenizer_json and num_codes exclude each other; give one of them")
        if self.pretrained and (self.token_dropout or self.diagonal_slope):
            raise ValueError(
                "token_dropout and diagonal_slope do not apply to a pretrained decoder; leave them out"
            )
        if self.prior_sharpness and not self.diagonal_slope:
            raise ValueError("prior_sharpness needs diagonal_slope > 0; set it, or leave prior_sharpness out")
        if self.lora_rank and not self.pretrained:
            raise ValueError("lora_rank needs a pretrained decoder; other decoders train all weights")
        if self.num_positions and not self.num_codes:
            raise ValueError("num_positions needs num_codes; give one position per code, and one more")
        return self


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a decoder.

    Attributes:
        size: Number of ids.
        start: Ids at the start of every sequence, if there is no chat template.
        end_ids: Ids that end a sequence; training uses the first.
        tokenizer: Maps text to ids and back; None if ids are codes.
        chat: Chat template of a pretrained model; None for others.
    """

    size: int
    start: tuple[int, ...]
    end_ids: tuple[int, ...]
    tokenizer: Bpe | None = None
    chat: Chat | None = None

    @classmethod
    def of_model(cls, found: TextModel) -> Vocabulary:
        """Return the vocabulary of a pretrained model."""
        of_turn = None if found.chat is None else found.chat.turn_end  # others end documents, not turns
        ends = sorted(found.end_ids, key=lambda one: (one != of_turn, one))
        return cls(found.model.config.vocab_size, (), tuple(ends), found.tokenizer, found.chat)

    def __deepcopy__(self, memo: dict[int, object]) -> Vocabulary:
        return self  # it is immutable, and a chat template cannot be copied


class Decoder(nn.Module):
    """Language model with its vocabulary.

    Args:
        config: Configuration.
        memory_dim: Width of the memory for cross-attention; 0: no cross-attention.

    Attributes:
        model: The language model.
        vocabulary: Its ids.

    Raises:
        UsageError: If the configuration names no vocabulary.
    """

    def __init__(self, config: DecoderConfig, memory_dim: int) -> None:
        super().__init__()
        self.config = config
        if config.pretrained:
            found = open_text_model(config.pretrained)
            self.vocabulary = Vocabulary.of_model(found)
            self.model = add_cross_attention(found.model, memory_dim, config.memory_last)
            add_lora(self.model, config.lora_rank)
            return
        if config.tokenizer_json:
            tokenizer = Bpe(config.tokenizer_json)
            start, end = tokenizer.encode("")
            self.vocabulary = Vocabulary(tokenizer.vocab_size, (start,), (end,), tokenizer)
        elif config.num_codes:
            num = config.num_codes
            self.vocabulary = Vocabulary(num + 2, start=(num,), end_ids=(num + 1,))
        else:
            raise UsageError("a decoder without vocabulary; give pretrained, tokenizer_json or num_codes")
        self.model = _small_model(config, self.vocabulary.size, memory_dim)

    @property
    def tokenizer(self) -> Bpe | None:
        """Maps text to ids and back; None if ids are codes."""
        return self.vocabulary.tokenizer

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end a sequence."""
        return self.vocabulary.end_ids

    def prompt_ids(self, text: str = "") -> list[int]:
        """Return the ids before the answer: start ids and, if the decoder is prompted, those of `text`."""
        known = self.vocabulary
        if known.tokenizer is None or not self.config.prompted:
            return list(known.start)
        if known.chat is not None:
            return ids_of(known.chat.encode([Message("user", text)]))
        return [*known.start, *known.tokenizer.encode(text, with_special=False)]

    def answer_ids(self, answer: str | Sequence[int]) -> list[int]:
        """Ids of an answer and the end id; raises `UsageError` for a text if the decoder writes codes."""
        if isinstance(answer, str):
            if self.tokenizer is None:
                raise UsageError(f"this decoder writes codes, not the text '{answer}'")
            return [*self.tokenizer.encode(answer, with_special=False), self.end_ids[0]]
        return [*map(int, answer), self.end_ids[0]]

    def drop_tokens(self, ids: Int64[Tensor, "R N"]) -> Int64[Tensor, "R N"]:
        """Replace a random share of the ids by the start id, in training (`DecoderConfig.token_dropout`)."""
        if not self.training or not self.config.token_dropout:
            return ids
        share = torch.full((len(ids), 1), self.config.token_dropout, device=ids.device)
        if self.config.num_positions:
            share *= torch.rand_like(share)
        is_dropped = torch.rand(ids.shape, device=ids.device) < share
        return ids.masked_fill(is_dropped, self.vocabulary.start[0])

    def external_names(self) -> set[str]:
        """Names, within `model`, of the frozen pretrained tensors; checkpoints do not contain them."""
        if not self.config.pretrained:
            return set()
        return {name for name, _ in self.model.named_parameters()} - set(adapter_names(self.model))


def add_cross_attention(model: LanguageModel, memory_dim: int, last: int | None = None) -> LanguageModel:
    """Build the same model with gated cross-attention; copied weights are frozen, new ones train.

    Args:
        model: Model without cross-attention.
        memory_dim: Width of the memory; 0: no cross-attention (`mode = "prefix"`).
        last: Only the last n blocks get cross-attention; None: all.
    """
    block = model.config.block.model_copy(update={"memory_dim": memory_dim, "gated_memory": True})
    twin = LanguageModel(model.config.model_copy(update={"block": block, "memory_last": last}))
    state = model.state_dict()
    twin.load_state_dict(state, strict=False)
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(name not in state)
    return twin


def add_lora(model: LanguageModel, rank: int) -> None:
    """Add LoRA adapters to the query and value projections of every self-attention; `rank` 0 adds none."""
    for block in model.stack.blocks if rank else ():
        adapt(block.get_submodule("attention"), ("query", "value"), rank)


def adapter_names(model: nn.Module) -> Iterator[str]:
    """Names of the parameters added to a pretrained model: gates, cross-attention, LoRA matrices."""
    adapted = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, LoRALinear))
    for name, _ in model.named_parameters():
        last = name.rpartition(".")[2]
        if ".memory_" in name or (name.startswith(adapted) and last in ("down", "up")):
            yield name


def _small_model(config: DecoderConfig, vocab_size: int, memory_dim: int) -> LanguageModel:
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
        gated_memory=config.gated_memory,
        memory_diagonal_slope=config.diagonal_slope,
        memory_prior_sharpness=config.prior_sharpness,
        dropout=config.dropout,
    )
    model = LanguageModel(
        LanguageModelConfig(
            vocab_size=vocab_size,
            block=block,
            depth=config.depth,
            memory_last=config.memory_last,
            num_positions=config.num_positions,
        )
    )
    if model.positions is not None:
        _init_as_grid(model.positions.table)
    return model


@torch.no_grad()
def _init_as_grid(table: Tensor) -> None:
    """Initialise the positions of a square image's codes as its rows and columns; the last is the end's."""
    side = isqrt(len(table) - 1)
    if side**2 == len(table) - 1 and table.shape[1] % 4 == 0:
        table[:-1] = _GRID_SCALE * sinusoidal_grid(side, table.shape[1])
