"""The multimodal language model: images, sounds, films and texts in; text, images or speech out.

    input layer    each modality through its own encoder (CNN, RNN or Transformer): feature vectors
    encoder        a stack of self-attention blocks in which the vectors of all modalities meet: the memory
    decoders       one for each kind of output; each attends to the memory and to what it has written so far
    output layer   the decoder's odds of the next id: of a word piece, or of a code of an image or a sound

A decoder may be a finished language model, frozen, which looks at the memory through gates that start at 0,
or a small one of our own. With `mode = "prefix"` the memory is not attended to but put before the text,
projected into the decoder's own input. A row may lack any modality, and what stands at masked places is never
seen. Does not know how ids are chosen (`generation`), what they stand for (`codecs`), nor how it is trained.
"""

from __future__ import annotations

import inspect
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int64
from pydantic import Field, JsonValue, model_validator
from torch import Tensor, nn

from sensorium.core.config import Config
from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import MediaBatch, Tokens
from sensorium.encoders import ENCODERS, Encoder
from sensorium.fusion import build as build_fusion
from sensorium.losses import IGNORED
from sensorium.models.decoder import Writer, WriterConfig
from sensorium.models.extensions import Extension, Options
from sensorium.models.extensions import build as build_extension
from sensorium.models.sequences import Lesson, Writing
from sensorium.models.tower import Modality
from sensorium.nn.attention import KeyValues
from sensorium.nn.position import POSITION_DIM, concat_positions

Output = Literal["text", "image", "audio"]


class SourceConfig(Config):
    """How one modality comes in.

    Attributes:
        encoder: Registered name.
        options: The encoder's own arguments.
        frozen: Lock the encoder: its tokens are computed once and kept beside the rows.
    """

    encoder: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
    frozen: bool = False


class MultimodalLMConfig(Config):
    """A multimodal language model.

    Attributes:
        sources: By modality.
        dim: Width D of the memory.
        fusion: In which the modalities meet, by its registered name.
        fusion_options: Its own arguments, as `depth`.
        modality_dropout: Chance for each modality of each row to be hidden in training.
        mode: `memory`: decoders attend to it; `prefix`: it stands before what they write.
        decoders: By the kind of output.
        extensions: Options of each part that a plug-in brings, by its registered name (`models.extensions`).
    """

    sources: dict[Modality, SourceConfig] = Field(min_length=1)
    dim: int = Field(default=192, ge=1)
    fusion: str = "transformer"
    fusion_options: dict[str, JsonValue] = Field(default_factory=dict)
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    mode: Literal["memory", "prefix"] = "memory"
    decoders: dict[Output, WriterConfig] = Field(min_length=1)
    extensions: dict[str, Options] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_memory_no_blocks(self) -> MultimodalLMConfig:
        for name, decoder in self.decoders.items():
            for option, is_set in (
                ("memory_last", decoder.memory_last is not None),
                ("pace", decoder.pace > 0),
                ("guidance", decoder.guidance != 1),
            ):
                if self.mode == "prefix" and is_set:
                    raise ValueError(
                        f"decoders.{name}.{option} has no meaning with mode = 'prefix'; leave it out"
                    )
            if decoder.guidance != 1 and not self.modality_dropout:
                raise ValueError(
                    f"decoders.{name}.guidance needs training in which memories are hidden; "
                    "set modality_dropout, as to 0.1"
                )
        return self


@dataclass(frozen=True)
class Context:
    """What a decoder looks at besides what it has written.

    Attributes:
        memory: For the cross-attention of each block; None in prefix mode.
        prefix: Vectors that stand before the text; None otherwise.
    """

    memory: list[KeyValues | None] | None = None
    prefix: Tokens | None = None


@dataclass(frozen=True)
class Written:
    """What a decoder gives for a lesson, at the places where something is to be learned.

    Attributes:
        hidden: (A, D).
        targets: Ids that are to be written there, (A,).
        rows: Row of the batch that each place is of, (A,).
    """

    hidden: Float[Tensor, "A D"]
    targets: Int64[Tensor, " A"]
    rows: Int64[Tensor, " A"]


class MultimodalLM(nn.Module):
    """Encoders, fusion, decoders.

    Args:
        config: What to build. Weights come from torch's global generator.
        pretrained: False leaves out what trained: a checkpoint brings it. Frozen parts that came by a name
            come by it in any case, for no checkpoint holds them.

    Attributes:
        config: As given, with the tokenizers that came along.
        sources: Encoders by modality.
        decoders: By the kind of output.
        extensions: Parts that plug-ins bring, by name.

    Raises:
        ConfigError: If an encoder is of another modality.
        NotFoundError: If an extension is not installed.
    """

    def __init__(self, config: MultimodalLMConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        self.sources = nn.ModuleDict(
            {name: cast(nn.Module, _source(name, one)) for name, one in sorted(config.sources.items())}
        )
        dims = {name: self.source(name).dim + POSITION_DIM for name in self.sources}
        self.fusion = build_fusion(
            config.fusion,
            dims,
            config.dim,
            width=config.dim,
            modality_dropout=config.modality_dropout,
            **cast(dict[str, Any], config.fusion_options),
        )
        memory_dim = config.dim if config.mode == "memory" else 0
        self.decoders = nn.ModuleDict(
            {name: Writer(one, memory_dim) for name, one in sorted(config.decoders.items())}
        )
        self.prefixes = nn.ModuleDict(
            {name: nn.Linear(config.dim, self.decoder(name).model.config.block.dim) for name in self.decoders}
            if config.mode == "prefix"
            else {}
        )
        encoders = {name: self.source(name) for name in self.sources}
        self.extensions = nn.ModuleDict(
            {name: build_extension(name, one, encoders) for name, one in sorted(config.extensions.items())}
        )
        self.config = config
        self.register_state_dict_post_hook(_leave_out)
        self.register_load_state_dict_post_hook(_do_not_miss)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.fusion.parameters()).device

    def decoder(self, name: str) -> Writer:
        """The decoder of a kind of output.

        Raises:
            UsageError: If there is none; the message says what there is.
        """
        if name not in self.decoders:
            raise UsageError(f"this model does not write {name}; it writes {', '.join(self.decoders)}")
        return cast(Writer, self.decoders[name])

    def keep_extensions(self) -> None:
        """Put what the extensions have learned into the configuration, which a checkpoint keeps."""
        known = {name: cast(Extension, one).options for name, one in self.extensions.items()}
        self.config = self.config.model_copy(update={"extensions": known})

    def forward(self, lesson: Lesson) -> Written:
        """Read a lesson's media, and what is written of them up to each place where something is learned."""
        writing = lesson.writing
        context = self.context(lesson.decoder, self.encode(lesson.media), writing)
        hidden = self.read(lesson.decoder, writing, context)
        learned = writing.targets != IGNORED
        segments = torch.zeros_like(writing.ids) if writing.segments is None else writing.segments
        which = segments.clamp(max=writing.memory_of.shape[1] - 1)
        rows = writing.memory_of.gather(1, which)[learned]
        return Written(hidden[learned], writing.targets[learned], lesson.rows.to(rows.device)[rows])

    def encode(self, media: MediaBatch) -> Tokens:
        """Let the modalities of each row meet: the memory, (B, S, D).

        Args:
            media: Inputs by modality, or tokens that a frozen encoder gave before.

        Raises:
            UsageError: If there is no encoder for a modality.
        """
        given = dict.fromkeys([*media.inputs, *media.tokens])
        for name in given:
            if name not in self.sources:
                raise UsageError(f"this model does not take {name}; it takes {', '.join(self.sources)}")
        features = {name: self._features(name, media) for name in given}
        if not features:
            features = {name: self._nothing(name, len(media.rows)) for name in list(self.sources)[:1]}
        met = self.fusion(features)
        return Tokens(met.tokens, met.mask)

    def looked_at(self, media: MediaBatch) -> MediaBatch:
        """The same batch with tokens in the place of inputs: what encoders see is seen once."""
        seen = {name: self.source(name)(one) for name, one in media.inputs.items()}
        return replace(media, inputs={}, tokens={**media.tokens, **seen})

    def context(self, to: str, memory: Tokens, writing: Writing | None = None) -> Context:
        """Make of a memory what a decoder looks at.

        Args:
            to: Kind of output.
            memory: From `encode`.
            writing: Says which rows of the memory its sequences attend to; None: each row its own.

        Raises:
            UsageError: If sequences are packed in prefix mode.
        """
        model = self.decoder(to).model
        segments = None
        if writing is not None:
            memory, segments = writing.attended(memory)
        if self.config.mode == "memory":
            return Context(memory=model.memory_key_values(memory.values, memory.mask, segments))
        if segments is not None:
            raise UsageError("sequences packed into one row cannot each have a prefix; do not pack them")
        return Context(prefix=Tokens(self.prefixes[to](memory.values), memory.mask))

    def read(self, to: str, writing: Writing, context: Context) -> Float[Tensor, "R N D"]:
        """Hidden vectors at every place of a writing."""
        model, ids = self.decoder(to).model, self.decoder(to).remembered(writing.ids)
        x, mask, positions = model.embed(ids, writing.positions), writing.mask, writing.positions
        if context.prefix is None:
            hidden: Tensor = model(
                x, mask, positions=positions, memory=context.memory, segments=writing.segments
            )
            return hidden
        before = context.prefix
        x, mask = torch.cat([before.values, x], dim=1), torch.cat([before.mask, mask], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        after: Tensor = model(x, mask, positions=positions)[:, before.mask.shape[1] :]
        return after

    def train(self, mode: bool = True) -> MultimodalLM:
        """Set training mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for name, source in self.config.sources.items():
            if source.frozen:
                self.sources[name].eval()
        return self

    def named_elsewhere(self) -> set[str]:
        """Names of tensors that a package brings, by its name in the configuration; checkpoints lack them."""
        names = {
            f"decoders.{name}.model.{tensor}"
            for name in self.decoders
            for tensor in self.decoder(name).named_elsewhere()
        }
        for name, source in self.config.sources.items():
            if source.frozen and _is_packaged(source):
                names |= {f"sources.{name}.{tensor}" for tensor in self.sources[name].state_dict()}
        return names

    def source(self, name: str) -> Encoder:
        """The encoder of a modality."""
        return cast(Encoder, self.sources[name])

    def _features(self, name: str, media: MediaBatch) -> Tokens:
        """Tokens of a modality with their positions beside them, spread over all rows of the batch."""
        own = media.tokens[name] if name in media.tokens else self.source(name)(media.inputs[name])
        values, real = concat_positions(own.values, is_image=name == "image"), own.mask
        if name in media.shared:
            values, real = values[media.shared[name]], real[media.shared[name]]
        present, num_rows = media.present[name], len(media.rows)
        mask = torch.zeros(num_rows, real.shape[1], dtype=torch.bool, device=values.device)
        mask[present] = real
        spread = values.new_zeros(num_rows, *values.shape[1:]).index_put((present,), values)
        return Tokens(spread, mask)

    def _nothing(self, name: str, num_rows: int) -> Tokens:
        values = torch.zeros(num_rows, 0, self.fusion.dims[name], device=self.device)
        return Tokens(values, torch.zeros(num_rows, 0, dtype=torch.bool, device=self.device))


def _source(modality: str, config: SourceConfig) -> Encoder:
    encoder = ENCODERS.build(config.encoder, **config.options)
    if encoder.modality != modality:
        raise ConfigError(f"'{config.encoder}' encodes {encoder.modality}; expected an encoder of {modality}")
    if config.frozen:
        cast(nn.Module, encoder).requires_grad_(False).eval()
    return encoder


def _is_packaged(source: SourceConfig) -> bool:
    """Whether an encoder brings its own weights."""
    can_be = "pretrained" in inspect.signature(ENCODERS.get(source.encoder)).parameters
    return can_be and bool(source.options.get("pretrained", True))


def _leave_out(model: nn.Module, state: MutableMapping[str, object], prefix: str, *_: object) -> None:
    """Take out of a state what a checkpoint must not hold."""
    for name in cast(MultimodalLM, model).named_elsewhere():
        state.pop(f"{prefix}{name}", None)


def _do_not_miss(model: nn.Module, keys: tuple[list[str], list[str]]) -> None:
    """Let a state be whole without what it must not hold."""
    elsewhere = cast(MultimodalLM, model).named_elsewhere()
    missing = keys[0]
    missing[:] = [name for name in missing if name not in elsewhere]
