"""A tiny Whisper with random weights, as Hugging Face and as CTranslate2 lay one out."""

import json
import struct
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = ["a red frog", "a blue fish and a red bird", "the frog sees the bird", "naïve café"]
LANGUAGES = ("en", "zh", "de")
NUM_POSITIONS, NUM_TEXT_POSITIONS, NUM_MELS, DIM = 53, 61, 13, 24
DEPTHS, HEADS, MLP_DIMS = (3, 2), (6, 4), (29, 31)


def tiny_tokenizer() -> Tokenizer:
    """Text, then the marks in Whisper's order; ids after them are times."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    )
    names = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm"]
    names += ["startofprev", "nospeech", "notimestamps"]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in names])
    return tokenizer


def vocab_size() -> int:
    return tiny_tokenizer().get_vocab_size() + NUM_POSITIONS + 1


def settings() -> dict[str, object]:
    """`config.json` in Hugging Face's layout."""
    return {
        "model_type": "whisper",
        "d_model": DIM,
        "encoder_layers": DEPTHS[0],
        "decoder_layers": DEPTHS[1],
        "encoder_attention_heads": HEADS[0],
        "decoder_attention_heads": HEADS[1],
        "encoder_ffn_dim": MLP_DIMS[0],
        "decoder_ffn_dim": MLP_DIMS[1],
        "max_source_positions": NUM_POSITIONS,
        "max_target_positions": NUM_TEXT_POSITIONS,
        "num_mel_bins": NUM_MELS,
        "vocab_size": vocab_size(),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 3,
    }


def random_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Parameters under Hugging Face's names; keys have no bias."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def put(name: str, *shape: int, mean: float = 0.0) -> None:
        state[name] = mean + 0.3 * torch.randn(shape, generator=generator)

    def linear(name: str, inner: int, outer: int, *, has_bias: bool = True) -> None:
        put(f"{name}.weight", outer, inner)
        if has_bias:
            put(f"{name}.bias", outer)

    def norm(name: str) -> None:
        put(f"{name}.weight", DIM, mean=1.0)
        put(f"{name}.bias", DIM)

    put("model.encoder.conv1.weight", DIM, NUM_MELS, 3)
    put("model.encoder.conv1.bias", DIM)
    put("model.encoder.conv2.weight", DIM, DIM, 3)
    put("model.encoder.conv2.bias", DIM)
    put("model.encoder.embed_positions.weight", NUM_POSITIONS, DIM)
    put("model.decoder.embed_tokens.weight", vocab_size(), DIM)
    put("model.decoder.embed_positions.weight", NUM_TEXT_POSITIONS, DIM)
    for side, depth, mlp_dim in zip(("encoder", "decoder"), DEPTHS, MLP_DIMS, strict=True):
        norm(f"model.{side}.layer_norm")
        for number in range(depth):
            layer = f"model.{side}.layers.{number}"
            for attention in ("self_attn", "encoder_attn")[: 1 + (side == "decoder")]:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{layer}.{attention}.{part}", DIM, DIM, has_bias=part != "k_proj")
                norm(f"{layer}.{attention}_layer_norm")
            linear(f"{layer}.fc1", DIM, mlp_dim)
            linear(f"{layer}.fc2", mlp_dim, DIM)
            norm(f"{layer}.final_layer_norm")
    return state


def write_hf(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    _write_settings(folder, settings() | {"is_multilingual": True})
    save_file(state, folder / "model.safetensors")
    return folder


def write_ct2(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    _write_settings(folder, {"is_multilingual": True, "suppress_ids": [1, 2], "alignment_heads": [[1, 0]]})
    (folder / "model.bin").write_bytes(model_bin(variables(state)))
    return folder


def variables(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The same parameters under CTranslate2's names: projections that belong together lie in one matrix."""
    given = {name.removeprefix("model."): value.numpy() for name, value in state.items()}
    found: dict[str, np.ndarray] = {}

    def fused(names: list[str], leaf: str) -> np.ndarray:
        zeros = np.zeros(DIM, np.float32)
        return np.concatenate([given.get(f"{name}.{leaf}", zeros) for name in names])

    def put(ours: str, *theirs: str, leaves: tuple[str, str] = ("weight", "bias")) -> None:
        for leaf, original in zip(leaves, ("weight", "bias"), strict=True):
            found[f"{ours}/{leaf}"] = fused(list(theirs), original)

    scales = ("gamma", "beta")
    put("encoder/conv1", "encoder.conv1")
    put("encoder/conv2", "encoder.conv2")
    found["decoder/embeddings/weight"] = given["decoder.embed_tokens.weight"]
    found["decoder/projection/weight"] = given["decoder.embed_tokens.weight"]
    for side, depth, heads in zip(("encoder", "decoder"), DEPTHS, HEADS, strict=True):
        found[f"{side}/num_heads"] = np.array(heads, np.int16)
        found[f"{side}/position_encodings/encodings"] = given[f"{side}.embed_positions.weight"]
        put(f"{side}/layer_norm", f"{side}.layer_norm", leaves=scales)
        for number in range(depth):
            ours, theirs = f"{side}/layer_{number}", f"{side}.layers.{number}"
            own = [f"{theirs}.self_attn.{part}_proj" for part in ("q", "k", "v")]
            put(f"{ours}/self_attention/linear_0", *own)
            put(f"{ours}/self_attention/linear_1", f"{theirs}.self_attn.out_proj")
            put(f"{ours}/self_attention/layer_norm", f"{theirs}.self_attn_layer_norm", leaves=scales)
            if side == "decoder":
                other = f"{theirs}.encoder_attn"
                put(f"{ours}/attention/linear_0", f"{other}.q_proj")
                put(f"{ours}/attention/linear_1", f"{other}.k_proj", f"{other}.v_proj")
                put(f"{ours}/attention/linear_2", f"{other}.out_proj")
                put(f"{ours}/attention/layer_norm", f"{other}_layer_norm", leaves=scales)
            put(f"{ours}/ffn/linear_0", f"{theirs}.fc1")
            put(f"{ours}/ffn/linear_1", f"{theirs}.fc2")
            put(f"{ours}/ffn/layer_norm", f"{theirs}.final_layer_norm", leaves=scales)
    return found


def model_bin(values: dict[str, np.ndarray], version: int = 6) -> bytes:
    """A CTranslate2 file with these variables, and `encoder/alias` for `encoder/a`."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    content = struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<II", 3, len(values))
    for name, value in values.items():
        content += string(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += struct.pack("<BI", kinds[str(value.dtype)], value.nbytes) + value.tobytes()
    return content + struct.pack("<I", 1) + string("encoder/alias") + string("encoder/a")


def _write_settings(folder: Path, values: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text(tiny_tokenizer().to_str())


def record(path: Path, seconds: float, level: float = 0.1) -> Path:
    """A file of noise."""
    samples = np.random.default_rng(3).normal(0, level, int(16_000 * seconds)).astype(np.float32)
    soundfile.write(path, samples, 16_000)
    return path
