"""GGUF files for tests, written by the package `gguf` and by the formulas of llama.cpp's converter."""

import json
from pathlib import Path

import gguf
import numpy as np
import torch

from sensorium.codecs.bpe import Bpe, train_bpe
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained import gguf_llama
from sensorium.models.pretrained.llama import read_config

DIM, HEADS, KV_HEADS, HEAD_DIM, MLP_DIM, DEPTH, CONTEXT = 96, 6, 2, 16, 64, 2, 61
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"


def write(path: Path, tensors: dict[str, np.ndarray], kind: str = "F32", **metadata: object) -> Path:
    """Write a file by the reference package; matrices are of `kind`, vectors of F32."""
    writer = gguf.GGUFWriter(path, str(metadata.pop("arch", "llama")))
    for key, value in metadata.items():
        writer.add_key_value(key.replace("__", "."), value, gguf.GGUFValueType.get_type(value))
    for name, value in tensors.items():
        one = gguf.GGMLQuantizationType[kind if value.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(value, one), raw_dtype=one)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def described(tokenizer: Bpe) -> dict[str, object]:
    """The metadata by which a GGUF file describes a tokenizer."""
    model = json.loads(tokenizer.json)["model"]
    return {
        "tokenizer__ggml__model": "gpt2",
        "tokenizer__ggml__pre": "gpt-2",
        "tokenizer__ggml__tokens": list(model["vocab"]),
        "tokenizer__ggml__token_type": [
            3 if name.startswith("<") and len(name) > 1 else 1 for name in model["vocab"]
        ],
        "tokenizer__ggml__merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer__ggml__eos_token_id": 2,
        "tokenizer__chat_template": TEMPLATE,
    }


def sizes(arch: str) -> dict[str, object]:
    values = {
        "context_length": CONTEXT, "embedding_length": DIM, "block_count": DEPTH,
        "feed_forward_length": MLP_DIM,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "rope.freq_base": 3_000.0,
        "attention.layer_norm_rms_epsilon": 0.01,
    }  # fmt: skip
    values |= {"attention.key_length": HEAD_DIM} if arch == "qwen3" else {}
    return {f"{arch}__{key.replace('.', '__')}": value for key, value in values.items()}


def named_by_llama_cpp(model: LanguageModel, arch: str) -> dict[str, np.ndarray]:
    """Our parameters as `convert_hf_to_gguf.py` would write them, with its own formula for rotary pairs."""
    theirs = {}
    for name in gguf_names():
        value = model.state_dict()[gguf_llama.rename(name)].numpy() if known(model, name) else None
        if value is None:
            continue
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.split(".")[-2] if "." in name else "")
        if arch == "llama" and heads:
            split = value.reshape(heads, 2, len(value) // heads // 2, *value.shape[1:])
            value = split.swapaxes(1, 2).reshape(value.shape)
        theirs[name] = value
    return theirs


def gguf_names() -> list[str]:
    parts = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm"]
    parts += ["ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
    names = [f"blk.{n}.{part}.{leaf}" for n in range(DEPTH) for part in parts for leaf in ("weight", "bias")]
    return ["token_embd.weight", "output_norm.weight", "output.weight", *names]


def known(model: LanguageModel, name: str) -> bool:
    return gguf_llama.rename(name) in model.state_dict()


def random_model(arch: str, vocab_size: int) -> LanguageModel:
    config = {
        "model_type": arch, "vocab_size": vocab_size, "hidden_size": DIM, "head_dim": HEAD_DIM,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": MLP_DIM,
        "num_hidden_layers": DEPTH, "rms_norm_eps": 0.01, "rope_theta": 3_000.0,
        "tie_word_embeddings": arch == "qwen2",
    }  # fmt: skip
    torch.manual_seed(7)
    model = LanguageModel(read_config(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def some_tokenizer() -> Bpe:
    return Bpe(train_bpe(["low lower lowest newer newest"] * 3, 280))


def write_model(path: Path, arch: str = "llama", **changes: object) -> LanguageModel:
    """Write a small random model with its tokenizer; return the model."""
    tokenizer = some_tokenizer()
    model = random_model(arch, tokenizer.vocab_size)
    metadata = {**sizes(arch), **described(tokenizer), **changes}
    write(path, named_by_llama_cpp(model, arch), arch=arch, **metadata)
    return model
