"""Whisper models of any size, in Hugging Face's or CTranslate2's layout.

Input: a folder with `config.json`, `tokenizer.json` and weights: `model.safetensors` (Hugging Face) or
`model.bin` (CTranslate2, float32 or float16). Output: a `Recogniser`, its vocabulary, and the attention heads
that follow the audio. Matches the reference code (relative error <= 1e-5 in fp32).

Reference: `modeling_whisper.py` of transformers 5; `specs/whisper_spec.py` of CTranslate2 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from sensorium.core.errors import CheckpointError, ConfigError, NotFoundError
from sensorium.encoders.pretrained import whisper as encoder
from sensorium.encoders.pretrained.ctranslate2 import read_model
from sensorium.encoders.pretrained.names import rename, rename_variables
from sensorium.models.language_model import LanguageModelConfig
from sensorium.models.pretrained.folder import (
    WEIGHTS,
    has_weights,
    name_in_errors,
    read_json,
    read_text,
    read_weights,
)
from sensorium.models.pretrained.settings import Settings, short_repr
from sensorium.models.pretrained.whisper_vocabulary import WhisperVocabulary
from sensorium.models.recogniser import Recogniser, RecogniserConfig
from sensorium.models.weights import check_finite, check_floating, one_line
from sensorium.nn.block import BlockConfig

Precision: TypeAlias = Literal["fp32", "mixed", "bf16"]
CT2_WEIGHTS = "model.bin"


@dataclass(frozen=True, eq=False)
class Whisper:
    """A Whisper model.

    Attributes:
        model: Encoder and decoder.
        vocabulary: Vocabulary of the decoder.
        alignment_heads: Pairs of block and head whose cross-attention gives word timestamps.
        precision: `fp32`; `mixed`: bfloat16 in generation by the decoder; `bf16`: in the encoder too.
    """

    model: Recogniser
    vocabulary: WhisperVocabulary
    alignment_heads: tuple[tuple[int, int], ...]
    precision: Precision = "fp32"


def load_whisper(folder: Path, precision: Precision = "fp32") -> Whisper:
    """Read a folder in either layout.

    Args:
        folder: Folder with `config.json`, `tokenizer.json` and weights.
        precision: Precision of computation; the decoder's parameters stay float32.

    Raises:
        NotFoundError: If the folder or a file is missing.
        CheckpointError: If a file is damaged, or the architecture is another.
    """
    values = read_json(folder / "config.json")
    values |= read_json(folder / "generation_config.json", {})
    with name_in_errors(folder):
        settings = Settings(values, "config.json or generation_config.json")
        config, state = _read_model(folder, values)
        model = build(config, state, torch.float32)
        vocabulary = _vocabulary(folder, settings, config.decoder.vocab_size)
        heads = _alignment_heads(settings, config.decoder)
    if precision == "bf16":
        model.encoder.bfloat16()
    return Whisper(model, vocabulary, heads or _later_half(config.decoder), precision)


def _read_model(folder: Path, values: Mapping[str, Any]) -> tuple[RecogniserConfig, dict[str, Tensor]]:
    """Read configuration and parameters from the layout that is present."""
    if has_weights(folder):
        return read_config(values), translate(read_weights(folder))
    if (folder / CT2_WEIGHTS).is_file():
        return _read_ct2(folder)
    raise NotFoundError(f"{folder} has no weights; expected {WEIGHTS} or {CT2_WEIGHTS}")


def _vocabulary(folder: Path, settings: Settings, vocab_size: int) -> WhisperVocabulary:
    is_known = settings.get("is_multilingual") is not None
    vocabulary = WhisperVocabulary(
        read_text(folder / "tokenizer.json"),
        vocab_size,
        _ids(settings, ("suppress_ids", "suppress_tokens"), vocab_size),
        _ids(settings, ("suppress_ids_begin", "begin_suppress_tokens"), vocab_size),
        settings.flag("is_multilingual") if is_known else None,
    )
    last = max(*vocabulary.suppressed, vocabulary.end, vocabulary.no_times, *vocabulary.languages.values())
    if last >= vocab_size:
        raise CheckpointError(
            f"tokenizer.json has a special token with id {last}, but the model has {vocab_size} ids"
        )
    return vocabulary


def _ids(settings: Settings, keys: Sequence[str], vocab_size: int) -> list[int]:
    """List of ids under the first key that is present; ids outside the vocabulary are ignored."""
    key = next((key for key in keys if settings.get(key) is not None), keys[0])
    found = settings.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or any(type(one) is not int for one in found):
        raise settings.error(key, "a list of ids")
    return [one for one in found if 0 <= one < vocab_size]


def _alignment_heads(settings: Settings, decoder: LanguageModelConfig) -> tuple[tuple[int, int], ...]:
    """Pairs of block and head; empty if the settings have none."""
    key, depth, num_heads = "alignment_heads", decoder.depth, decoder.block.num_heads
    found = settings.get(key)
    if found is None:
        return ()
    pairs = found if isinstance(found, list) else [found]
    known = {(block, head) for block in range(depth) for head in range(num_heads)}
    for pair in pairs:
        is_pair = isinstance(pair, list) and [type(one) for one in pair] == [int, int]
        if not is_pair or tuple(pair) not in known:
            raise settings.error(key, f"pairs of a block below {depth} and a head below {num_heads}")
    return tuple((block, head) for block, head in pairs)


def build(config: RecogniserConfig, state: Mapping[str, Tensor], dtype: torch.dtype) -> Recogniser:
    """Build the model from parameters by our names, without random initialisation.

    Missing biases of keys are 0. Raises `CheckpointError` for missing or unknown names and wrong shapes.
    """
    _check_depths(config, state)
    check_floating(state)
    whole = {name: value.to(dtype) for name, value in state.items()}
    check_finite(whole)
    try:
        with torch.device("meta"):
            model = Recogniser(config)
    except (ConfigError, RuntimeError) as error:  # heads that do not divide, sizes beyond 64 bits
        raise CheckpointError(f"the sizes do not fit each other: {one_line(error)}") from error
    for name, _ in model.named_parameters():
        weight = whole.get(name.removesuffix("bias") + "weight")
        if name.endswith(".key.bias") and name not in whole and weight is not None:
            whole[name] = torch.zeros(len(weight), dtype=dtype)
    try:
        model.load_state_dict(whole, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the configuration: {one_line(error)}") from error
    return model.eval().requires_grad_(False)


def _check_depths(config: RecogniserConfig, state: Mapping[str, Tensor]) -> None:
    """Check the numbers of blocks against the weights, before memory is allocated."""
    for side, depth in (("encoder", config.encoder.depth), ("decoder", config.decoder.depth)):
        prefix = f"{side}.stack.blocks."
        found = {name.split(".")[3] for name in state if name.startswith(prefix)}
        if len(found) != depth:
            raise CheckpointError(
                f"{side}_layers is {depth}, but the weights have {len(found)} {side} layers"
            )


def read_config(values: Mapping[str, Any]) -> RecogniserConfig:
    """Translate a `config.json` of Hugging Face; raises `CheckpointError` if it is not supported."""
    if values.get("model_type") != "whisper":
        raise CheckpointError(f"model_type {short_repr(values.get('model_type'))} is not 'whisper'")
    settings = Settings(values, "config.json")
    for key, neutral in _NEUTRAL.items():
        settings.refuse_unless(key, *neutral)
    sides = ("encoder", "decoder")
    return _config(
        dim=settings.size("d_model"),
        depths=[settings.size(f"{side}_layers") for side in sides],
        heads=[settings.size(f"{side}_attention_heads") for side in sides],
        mlp_dims=[settings.size(f"{side}_ffn_dim") for side in sides],
        positions=[settings.size(f"max_{side}_positions") for side in ("source", "target")],
        num_mels=settings.size("num_mel_bins"),
        vocab_size=settings.size("vocab_size"),
    )


_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "scale_embedding": (False,),
    "activation_function": ("gelu",),
    "tie_word_embeddings": (True,),
    "quantization_config": (),
}
"""Keys that would change the result, with their neutral values."""


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a Hugging Face checkpoint; raises `CheckpointError` for unknown ones."""
    head, embedding = state.get("proj_out.weight"), state.get("model.decoder.embed_tokens.weight")
    if head is not None and embedding is not None:
        if head.dtype != embedding.dtype or not torch.equal(head, embedding):
            raise CheckpointError("'proj_out.weight' is not 'model.decoder.embed_tokens.weight'; tie them")
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if name != "proj_out.weight":
            renamed = rename(name.removeprefix("model."), _HF_NAMES, "Whisper; is this another architecture?")
            ours[".".join(_PARTS.get(part, part) for part in renamed.split("."))] = value
    return ours


def translate_variables(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename CTranslate2 variables, in float32; raises `CheckpointError` for unknown or quantised ones."""
    of_encoder = {name: value for name, value in state.items() if name.startswith("encoder/")}
    skipped = {*of_encoder, *_SETTINGS, "decoder/projection/weight"}
    of_decoder = {name: value for name, value in state.items() if name not in skipped}
    ours = {f"encoder.{name}": value for name, value in encoder.translate(of_encoder).items()}
    return ours | rename_variables(of_decoder, _CT2_NAMES, "Whisper's decoder")


_BLOCK = r"(encoder|decoder)\.layers\.(\d+)"
_HF_NAMES = (
    (r"encoder\.conv1\.(\w+)", r"encoder.first.\1"),
    (r"encoder\.conv2\.(\w+)", r"encoder.second.\1"),
    (r"encoder\.embed_positions\.weight", "encoder.positions"),
    (r"decoder\.embed_tokens\.weight", "decoder.embedding.weight"),
    (r"decoder\.embed_positions\.weight", "decoder.positions.table"),
    (r"(encoder|decoder)\.layer_norm\.(\w+)", r"\1.stack.norm.\2"),
    (rf"{_BLOCK}\.self_attn_layer_norm\.(\w+)", r"\1.stack.blocks.\2.attention_norm.\3"),
    (rf"{_BLOCK}\.self_attn\.(\w+)\.(\w+)", r"\1.stack.blocks.\2.attention.\3.\4"),
    (rf"{_BLOCK}\.encoder_attn_layer_norm\.(\w+)", r"\1.stack.blocks.\2.memory_norm.\3"),
    (rf"{_BLOCK}\.encoder_attn\.(\w+)\.(\w+)", r"\1.stack.blocks.\2.memory_attention.\3.\4"),
    (rf"{_BLOCK}\.final_layer_norm\.(\w+)", r"\1.stack.blocks.\2.mlp_norm.\3"),
    (rf"{_BLOCK}\.fc1\.(\w+)", r"\1.stack.blocks.\2.mlp.up.\3"),
    (rf"{_BLOCK}\.fc2\.(\w+)", r"\1.stack.blocks.\2.mlp.down.\3"),
)
_PARTS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
_LAYER = r"decoder/layer_(\d+)"
_CT2_DECODER_NAMES = (
    (r"decoder/embeddings/weight", "embedding.weight"),
    (r"decoder/position_encodings/encodings", "positions.table"),
    (r"decoder/layer_norm/(\w+)", r"stack.norm.\1"),
    (rf"{_LAYER}/self_attention/layer_norm/(\w+)", r"stack.blocks.\1.attention_norm.\2"),
    (rf"{_LAYER}/self_attention/linear_0/(\w+)", r"stack.blocks.\1.attention.{query,key,value}.\2"),
    (rf"{_LAYER}/self_attention/linear_1/(\w+)", r"stack.blocks.\1.attention.out.\2"),
    (rf"{_LAYER}/attention/layer_norm/(\w+)", r"stack.blocks.\1.memory_norm.\2"),
    (rf"{_LAYER}/attention/linear_0/(\w+)", r"stack.blocks.\1.memory_attention.query.\2"),
    (rf"{_LAYER}/attention/linear_1/(\w+)", r"stack.blocks.\1.memory_attention.{key,value}.\2"),
    (rf"{_LAYER}/attention/linear_2/(\w+)", r"stack.blocks.\1.memory_attention.out.\2"),
    (rf"{_LAYER}/ffn/layer_norm/(\w+)", r"stack.blocks.\1.mlp_norm.\2"),
    (rf"{_LAYER}/ffn/linear_0/(\w+)", r"stack.blocks.\1.mlp.up.\2"),
    (rf"{_LAYER}/ffn/linear_1/(\w+)", r"stack.blocks.\1.mlp.down.\2"),
)
_CT2_NAMES = tuple((pattern, f"decoder.{ours}") for pattern, ours in _CT2_DECODER_NAMES)
_SETTINGS = frozenset(
    f"decoder/{name}"
    for name in (
        "activation", "alibi", "alignment_heads", "alignment_layer", "num_heads", "pre_norm",
        "scale_embeddings", "start_from_zero_embedding",
    )
)  # fmt: skip


def _read_ct2(folder: Path) -> tuple[RecogniserConfig, dict[str, Tensor]]:
    """Derive the configuration from the variables; this layout stores no sizes."""
    arrays = read_model(folder / CT2_WEIGHTS)
    state = {name: torch.from_numpy(value) for name, value in arrays.items()}
    try:
        dim, num_mels, _ = state["encoder/conv1/weight"].shape
        sides = ("encoder", "decoder")
        config = _config(
            dim=dim,
            depths=tuple(
                len([name for name in state if re.fullmatch(_LAST.format(side), name)]) for side in sides
            ),
            heads=tuple(int(state[f"{side}/num_heads"]) for side in sides),
            mlp_dims=tuple(len(state[f"{side}/layer_0/ffn/linear_0/weight"]) for side in sides),
            positions=tuple(len(state[f"{side}/position_encodings/encodings"]) for side in sides),
            num_mels=num_mels,
            vocab_size=len(state["decoder/embeddings/weight"]),
        )
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{CT2_WEIGHTS} is no Whisper model: {one_line(error)}") from error
    return config, translate_variables(state)


_LAST = r"{}/layer_\d+/ffn/linear_1/weight"


def _config(
    *,
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    mlp_dims: Sequence[int],
    positions: Sequence[int],
    num_mels: int,
    vocab_size: int,
) -> RecogniserConfig:
    """Build the configuration; in pairs, the first value is the encoder's."""
    block = BlockConfig(
        dim=dim,
        num_heads=heads[1],
        mlp_dim=mlp_dims[1],
        norm_eps=1e-5,
        is_causal=True,
        memory_dim=dim,
        gated_memory=False,
    )
    return RecogniserConfig(
        encoder=encoder.WhisperShape(
            dim=dim,
            depth=depths[0],
            num_heads=heads[0],
            mlp_dim=mlp_dims[0],
            num_mels=num_mels,
            num_positions=positions[0],
        ),
        decoder=LanguageModelConfig(
            vocab_size=vocab_size, block=block, depth=depths[1], num_positions=positions[1]
        ),
    )


def _later_half(config: LanguageModelConfig) -> tuple[tuple[int, int], ...]:
    """All heads of the later half of the blocks: the default if no alignment heads are given."""
    depth, num_heads = config.depth, config.block.num_heads
    return tuple((block, head) for block in range(depth // 2, depth) for head in range(num_heads))
