"""Multimodal language model: images, audio, video and texts in; text, images or speech out.

    sources      one encoder per input modality (CNN, RNN or Transformer): token vectors
    fusion       a stack of blocks in which the tokens of all modalities attend to each other: the memory
    decoders     one per output modality; each has cross-attention to the memory and predicts the next id:
                 a text token, or a code of an image or audio codec

A decoder is a pretrained language model, frozen, with gated cross-attention, or a small one trained from
scratch. With `mode = "prefix"` there is no cross-attention: the memory is projected and put before the input
embeddings. A row may lack any modality; masked tokens never change the result. The module does not know how
ids are sampled (`generation`), what they stand for (`codecs`), or how the model is trained.
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
from sensorium.models.decoder import Decoder, DecoderConfig
from sensorium.models.extensions import Extension, Options
from sensorium.models.extensions import build as build_extension
from sensorium.models.sequences import DecoderBatch, TokenBatch
from sensorium.models.tower import Modality
from sensorium.nn.attention import KeyValues
from sensorium.nn.position import POSITION_DIM, concat_positions

Output = Literal["text", "image", "audio"]


class SourceConfig(Config):
    """Encoder of one input modality.

    Attributes:
        encoder: Registered name.
        options: Arguments of the encoder.
        frozen: Whether the encoder is frozen; its tokens are then computed once and cached in the table.
    """

    encoder: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
    frozen: bool = False


class MultimodalLMConfig(Config):
    """Configuration of a multimodal language model.

    Attributes:
        sources: Encoders by input modality.
        dim: Width D of the memory.
        fusion: Registered name of the fusion.
        fusion_options: Arguments of the fusion, such as `depth`.
        modality_dropout: Probability that a modality of a row is masked in training.
        mode: `memory`: decoders have cross-attention; `prefix`: the memory stands before their input.
        decoders: By output modality.
        extensions: Options of the parts that plug-ins add, by registered name (`models.extensions`).
    """

    sources: dict[Modality, SourceConfig] = Field(min_length=1)
    dim: int = Field(default=192, ge=1)
    fusion: str = "transformer"
    fusion_options: dict[str, JsonValue] = Field(default_factory=dict)
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    mode: Literal["memory", "prefix"] = "memory"
    decoders: dict[Output, DecoderConfig] = Field(min_length=1)
    extensions: dict[str, Options] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_mode(self) -> MultimodalLMConfig:
        for name, decoder in self.decoders.items():
            for option, is_set in (
                ("memory_last", decoder.memory_last is not None),
                ("diagonal_slope", decoder.diagonal_slope > 0),
                ("guidance", decoder.guidance != 1),
            ):
                if self.mode == "prefix" and is_set:
                    raise ValueError(f"decoders.{name}.{option} has no meaning with mode = 'prefix'; omit it")
            if decoder.guidance != 1 and not self.modality_dropout:
                raise ValueError(
                    f"decoders.{name}.guidance needs training with masked modalities; "
                    "set modality_dropout, such as 0.1"
                )
        return self


@dataclass(frozen=True)
class Context:
    """Encoded media as a decoder uses them.

    Attributes:
        memory: Keys and values for the cross-attention of each block; None in prefix mode.
        prefix: Vectors before the input embeddings, in prefix mode; None otherwise.
    """

    memory: list[KeyValues | None] | None = None
    prefix: Tokens | None = None


@dataclass(frozen=True)
class DecoderOutput:
    """Hidden vectors at the A positions of a batch that have a target.

    Attributes:
        hidden: (A, D).
        targets: Target ids, (A,).
        rows: Table row of each position, (A,).
    """

    hidden: Float[Tensor, "A D"]
    targets: Int64[Tensor, " A"]
    rows: Int64[Tensor, " A"]


class MultimodalLM(nn.Module):
    """Encoders, fusion, decoders.

    Args:
        config: What to build. Weights come from torch's global generator.
        pretrained: Ignored: frozen pretrained parts are always loaded by name, since no checkpoint contains
            them.

    Attributes:
        config: Configuration.
        sources: Encoders by input modality.
        decoders: By output modality.
        extensions: Parts that plug-ins add, by name.

    Raises:
        ConfigError: If an encoder is for another modality.
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
            {name: Decoder(one, memory_dim) for name, one in sorted(config.decoders.items())}
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
        self.register_state_dict_post_hook(_drop_external)
        self.register_load_state_dict_post_hook(_allow_external)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.fusion.parameters()).device

    def decoder(self, name: str) -> Decoder:
        """Return the decoder of an output modality; raises `UsageError` if there is none."""
        if name not in self.decoders:
            raise UsageError(f"this model does not write {name}; it writes {', '.join(self.decoders)}")
        return cast(Decoder, self.decoders[name])

    def source(self, name: str) -> Encoder:
        """Return the encoder of an input modality."""
        return cast(Encoder, self.sources[name])

    def store_extension_options(self) -> None:
        """Copy what the extensions have learned into the configuration, which a checkpoint contains."""
        known = {name: cast(Extension, one).options for name, one in self.extensions.items()}
        self.config = self.config.model_copy(update={"extensions": known})

    def forward(self, batch: DecoderBatch) -> DecoderOutput:
        """Encode the media of a training batch and run its decoder."""
        sequences = batch.sequences
        context = self.context(batch.decoder, self.encode(batch.media), sequences)
        hidden = self.hidden_states(batch.decoder, sequences, context)
        has_target = sequences.targets != IGNORED
        segments = torch.zeros_like(sequences.ids) if sequences.segments is None else sequences.segments
        which = segments.clamp(max=sequences.memory_rows.shape[1] - 1)
        rows = sequences.memory_rows.gather(1, which)[has_target]
        return DecoderOutput(
            hidden[has_target], sequences.targets[has_target], batch.rows.to(rows.device)[rows]
        )

    def encode(self, media: MediaBatch) -> Tokens:
        """Encode inputs, or cached tokens, and fuse them to a memory; raises `UsageError` without encoder."""
        given = dict.fromkeys([*media.inputs, *media.tokens])
        for name in given:
            if name not in self.sources:
                raise UsageError(f"this model does not take {name}; it takes {', '.join(self.sources)}")
        features = {name: self._features(name, media) for name in given}
        if not features:
            name, num_rows = next(iter(self.sources)), len(media.rows)
            values = torch.zeros(num_rows, 0, self.fusion.dims[name], device=self.device)
            features = {name: Tokens(values, values.new_zeros(num_rows, 0, dtype=torch.bool))}
        fused = self.fusion(features)
        return Tokens(fused.tokens, fused.mask)

    def with_tokens(self, media: MediaBatch) -> MediaBatch:
        """Replace encoder inputs by encoder outputs, so that each encoder runs once for several uses."""
        seen = {name: self.source(name)(one) for name, one in media.inputs.items()}
        return replace(media, inputs={}, tokens={**media.tokens, **seen})

    def context(self, to: str, memory: Tokens, sequences: TokenBatch | None = None) -> Context:
        """Project a memory for a decoder: to keys and values, or to a prefix.

        Args:
            to: Output modality.
            memory: Output of `encode`.
            sequences: Says which memory rows its sequences attend to; None: sequence i attends to row i.

        Raises:
            UsageError: If sequences are packed in prefix mode.
        """
        model = self.decoder(to).model
        segments = None
        if sequences is not None:
            memory, segments = sequences.gather_memory(memory)
        if self.config.mode == "memory":
            return Context(memory=model.memory_key_values(memory.values, memory.mask, segments))
        if segments is not None:
            raise UsageError("sequences packed into one row cannot each have a prefix; do not pack them")
        return Context(prefix=Tokens(self.prefixes[to](memory.values), memory.mask))

    def hidden_states(self, to: str, sequences: TokenBatch, context: Context) -> Float[Tensor, "R N D"]:
        """Run a decoder over sequences; returns the hidden vector at each position."""
        decoder, mask, positions = self.decoder(to), sequences.mask, sequences.positions
        x = decoder.model.embed(decoder.drop_tokens(sequences.ids), positions)
        if context.prefix is None:
            hidden: Tensor = decoder.model(
                x, mask, positions=positions, memory=context.memory, segments=sequences.segments
            )
            return hidden
        prefix = context.prefix
        x, mask = torch.cat([prefix.values, x], dim=1), torch.cat([prefix.mask, mask], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        after: Tensor = decoder.model(x, mask, positions=positions)[:, prefix.mask.shape[1] :]
        return after

    def train(self, mode: bool = True) -> MultimodalLM:
        """Set training mode; frozen encoders stay in evaluation mode."""
        super().train(mode)
        for name, source in self.config.sources.items():
            if source.frozen:
                self.sources[name].eval()
        return self

    def external_names(self) -> set[str]:
        """Names of the frozen tensors that a package or model file provides; checkpoints leave them out."""
        names = {
            f"decoders.{name}.model.{tensor}"
            for name in self.decoders
            for tensor in self.decoder(name).external_names()
        }
        for name, source in self.config.sources.items():
            if source.frozen and _is_pretrained(source):
                names |= {f"sources.{name}.{tensor}" for tensor in self.sources[name].state_dict()}
        return names

    def _features(self, name: str, media: MediaBatch) -> Tokens:
        """Tokens of a modality with position codes, scattered to all rows of the batch."""
        own = media.tokens[name] if name in media.tokens else self.source(name)(media.inputs[name])
        values, real = concat_positions(own.values, is_image=name == "image"), own.mask
        if name in media.shared:
            values, real = values[media.shared[name]], real[media.shared[name]]
        present, num_rows = media.present[name], len(media.rows)
        mask = torch.zeros(num_rows, real.shape[1], dtype=torch.bool, device=values.device)
        mask[present] = real
        spread = values.new_zeros(num_rows, *values.shape[1:]).index_put((present,), values)
        return Tokens(spread, mask)


def _source(modality: str, config: SourceConfig) -> Encoder:
    encoder = ENCODERS.build(config.encoder, **config.options)
    if encoder.modality != modality:
        raise ConfigError(f"'{config.encoder}' encodes {encoder.modality}; expected an encoder of {modality}")
    if config.frozen:
        cast(nn.Module, encoder).requires_grad_(False).eval()
    return encoder


def _is_pretrained(source: SourceConfig) -> bool:
    """Whether the encoder loads its own weights."""
    can_be = "pretrained" in inspect.signature(ENCODERS.get(source.encoder)).parameters
    return can_be and bool(source.options.get("pretrained", True))


def _drop_external(model: nn.Module, state: MutableMapping[str, object], prefix: str, *_: object) -> None:
    """Remove external tensors from a state dict (state-dict hook)."""
    for name in cast(MultimodalLM, model).external_names():
        state.pop(f"{prefix}{name}", None)


def _allow_external(model: nn.Module, keys: tuple[list[str], list[str]]) -> None:
    """Do not report external tensors as missing (load-state-dict hook)."""
    external = cast(MultimodalLM, model).external_names()
    keys[0][:] = [name for name in keys[0] if name not in external]
