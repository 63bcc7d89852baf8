"""Whisper of any size, from either of the layouts in which it is published.

In: a folder with `config.json`, `tokenizer.json` and the weights, as Hugging Face (`model.safetensors`) or
CTranslate2 (`model.bin`, float32 or float16) lay them out. Out: a `Recogniser` with its vocabulary and the
heads whose attention follows the sound. Equal to the reference code (relative error <= 1e-5 in fp32).

Reference: `modeling_whisper.py` of transformers 5; `specs/whisper_spec.py` of CTranslate2 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.encoders.pretrained import whisper as encoder
from sensorium.encoders.pretrained.ctranslate2 import read_model, rename_variables
from sensorium.models.language_model import LanguageModelConfig
from sensorium.models.pretrained.whisper_vocabulary import WhisperVocabulary
from sensorium.models.recogniser import Recogniser, RecogniserConfig
from sensorium.nn.block import BlockConfig

Precision: TypeAlias = Literal["fp32", "mixed", "bf16"]
HF_WEIGHTS, CT2_WEIGHTS = "model.safetensors", "model.bin"


@dataclass(frozen=True, eq=False)
class Whisper:
    """A recogniser that writes down speech.

    Attributes:
        model: Encoder and decoder.
        vocabulary: What its ids stand for.
        alignment_heads: Pairs of block and head whose cross-attention tells when a word is said.
        precision: `fp32`; `mixed`: the decoder computes in bfloat16 while it writes; `bf16`: both do.
    """

    model: Recogniser
    vocabulary: WhisperVocabulary
    alignment_heads: tuple[tuple[int, int], ...]
    precision: Precision = "fp32"


def load_whisper(folder: Path, precision: Precision = "fp32") -> Whisper:
    """Read a folder in either layout.

    Args:
        folder: Holds `config.json`, `tokenizer.json` and the weights.
        precision: In which it computes; the decoder's parameters are float32.

    Raises:
        NotFoundError: If the folder or one of its files is not there.
        CheckpointError: If a file is damaged, or of another architecture.
    """
    settings = _read_json(folder / "config.json")
    settings |= _read_json(folder / "generation_config.json", is_optional=True)
    if (folder / HF_WEIGHTS).is_file():
        config, state = _read_hf(folder, settings)
    elif (folder / CT2_WEIGHTS).is_file():
        config, state = _read_ct2(folder)
    else:
        raise NotFoundError(f"{folder} has no weights; expected {HF_WEIGHTS} or {CT2_WEIGHTS}")
    vocabulary = WhisperVocabulary(
        _read_text(folder / "tokenizer.json"),
        config.decoder.vocab_size,
        settings.get("suppress_ids", settings.get("suppress_tokens")) or (),
        settings.get("suppress_ids_begin", settings.get("begin_suppress_tokens")) or (),
        settings.get("is_multilingual"),
    )
    heads = [(int(block), int(head)) for block, head in settings.get("alignment_heads") or ()]
    model = build(config, state, torch.float32)
    if precision == "bf16":
        model.encoder.bfloat16()
    return Whisper(model, vocabulary, tuple(heads) or _later_half(config.decoder), precision)


def build(config: RecogniserConfig, state: Mapping[str, Tensor], dtype: torch.dtype) -> Recogniser:
    """Make the model and give it its parameters, without drawing any at random first.

    Args:
        config: Its sizes.
        state: Under our names; biases that are missing are 0, as all of the keys' are.
        dtype: Of the parameters.

    Raises:
        CheckpointError: If a parameter is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        model = Recogniser(config)
    whole = {name: value.to(dtype) for name, value in state.items()}
    for name, parameter in model.named_parameters():
        if name.endswith(".key.bias") and name not in whole:
            whole[name] = torch.zeros(parameter.shape, dtype=dtype)
    try:
        model.load_state_dict(whole, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the configuration: {_one_line(error)}") from error
    return model.eval().requires_grad_(False)


def read_config(values: Mapping[str, Any]) -> RecogniserConfig:
    """Translate a `config.json` in Hugging Face's layout.

    Raises:
        CheckpointError: If it is of another architecture, lacks a size, or asks for what is not built here.
    """
    if values.get("model_type") != "whisper":
        raise CheckpointError(f"model_type '{values.get('model_type')}' is not 'whisper'")
    if values.get("scale_embedding") or values.get("activation_function", "gelu") != "gelu":
        raise CheckpointError("scaled embeddings and other activations than gelu are not supported")
    try:
        return _config(
            dim=values["d_model"],
            depths=(values["encoder_layers"], values["decoder_layers"]),
            heads=(values["encoder_attention_heads"], values["decoder_attention_heads"]),
            mlp_dims=(values["encoder_ffn_dim"], values["decoder_ffn_dim"]),
            positions=(values["max_source_positions"], values["max_target_positions"]),
            num_mels=values["num_mel_bins"],
            vocab_size=values["vocab_size"],
        )
    except KeyError as error:
        raise CheckpointError(f"config.json lacks {error}; expected that of a Whisper model") from error


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a Hugging Face checkpoint as they are called here.

    Raises:
        CheckpointError: If a name is not Whisper's.
    """
    return {
        _rename(name.removeprefix("model.")): value
        for name, value in state.items()
        if name != "proj_out.weight"
    }


def translate_variables(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the variables of CTranslate2's layout as they are called here, in float32.

    Raises:
        CheckpointError: If a name is not Whisper's, or a variable is quantised.
    """
    heard = {name: value for name, value in state.items() if name.startswith("encoder/")}
    written = {
        name: value
        for name, value in state.items()
        if name not in heard and name not in _SETTINGS and name != "decoder/projection/weight"
    }
    ours = {f"encoder.{name}": value for name, value in encoder.translate(heard).items()}
    return ours | rename_variables(written, _CT2_NAMES, "Whisper's decoder")


_HF_NAMES = (
    (r"encoder\.conv1\.(\w+)", r"encoder.first.\1"),
    (r"encoder\.conv2\.(\w+)", r"encoder.second.\1"),
    (r"encoder\.embed_positions\.weight", "encoder.positions"),
    (r"decoder\.embed_tokens\.weight", "decoder.embedding.weight"),
    (r"decoder\.embed_positions\.weight", "decoder.positions.table"),
    (r"(encoder|decoder)\.layer_norm\.(\w+)", r"\1.stack.norm.\2"),
    (
        r"(encoder|decoder)\.layers\.(\d+)\.self_attn_layer_norm\.(\w+)",
        r"\1.stack.blocks.\2.attention_norm.\3",
    ),
    (r"(encoder|decoder)\.layers\.(\d+)\.self_attn\.(\w+)\.(\w+)", r"\1.stack.blocks.\2.attention.\3.\4"),
    (r"decoder\.layers\.(\d+)\.encoder_attn_layer_norm\.(\w+)", r"decoder.stack.blocks.\1.memory_norm.\2"),
    (
        r"decoder\.layers\.(\d+)\.encoder_attn\.(\w+)\.(\w+)",
        r"decoder.stack.blocks.\1.memory_attention.\2.\3",
    ),
    (r"(encoder|decoder)\.layers\.(\d+)\.final_layer_norm\.(\w+)", r"\1.stack.blocks.\2.mlp_norm.\3"),
    (r"(encoder|decoder)\.layers\.(\d+)\.fc1\.(\w+)", r"\1.stack.blocks.\2.mlp.up.\3"),
    (r"(encoder|decoder)\.layers\.(\d+)\.fc2\.(\w+)", r"\1.stack.blocks.\2.mlp.down.\3"),
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


def _rename(name: str) -> str:
    for pattern, ours in _HF_NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return ".".join(_PARTS.get(part, part) for part in match.expand(ours).split("."))
    raise CheckpointError(f"'{name}' is no parameter of Whisper; is this another architecture?")


def _read_hf(folder: Path, settings: Mapping[str, Any]) -> tuple[RecogniserConfig, dict[str, Tensor]]:
    try:
        state = load_file(folder / HF_WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / HF_WEIGHTS} is not a whole safetensors file: {error}") from error
    return read_config(settings), translate(state)


def _read_ct2(folder: Path) -> tuple[RecogniserConfig, dict[str, Tensor]]:
    """The layout has no sizes: they are those of the variables."""
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
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder / CT2_WEIGHTS} is no Whisper model: {error}") from error
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
    """Sizes; of pairs the first is the encoder's, the second the decoder's."""
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
    """Every head of the later half of the blocks, where nobody has said which follow the sound."""
    depth, num_heads = config.depth, config.block.num_heads
    return tuple((block, head) for block in range(depth // 2, depth) for head in range(num_heads))


def _read_json(path: Path, *, is_optional: bool = False) -> dict[str, Any]:
    if is_optional and not path.is_file():
        return {}
    try:
        values = json.loads(_read_text(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no settings; expected a JSON object")
    return values


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}; give a folder with a Whisper model") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not text: {error}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
