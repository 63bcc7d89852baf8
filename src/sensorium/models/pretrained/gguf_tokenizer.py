"""The tokenizer that a GGUF file describes, as the JSON of the `tokenizers` package.

In: metadata (pieces, kinds of pieces, merges, the name of the splitting rule). Out: JSON text for
`codecs.bpe.Bpe`. Only byte-level byte-pair tokenizers are known, and of their splitting rules those below;
others are refused, since a wrong one gives wrong ids without a word. Knows no model.

Reference: `llama-vocab.cpp` of llama.cpp for the rules by name; the JSON is the published tokenizers' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.gguf import Value

_CONTROL, _USER_DEFINED = 3, 4
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def tokenizer_json(metadata: Mapping[str, Value]) -> str:
    """Build the tokenizer.

    Raises:
        CheckpointError: If it is of another kind.
    """
    kind, rule = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or rule not in _SPLITTERS:
        known = ", ".join(_SPLITTERS)
        raise CheckpointError(
            f"tokenizer '{kind}' with rule '{rule}' is not supported; supported: gpt2 with {known}"
        )
    tokens = cast("list[str]", metadata.get("tokenizer.ggml.tokens", []))
    merges = [tuple(pair.split(" ", 1)) for pair in cast("list[str]", metadata["tokenizer.ggml.merges"])]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, cast(Any, merges), ignore_merges=rule == "llama-bpe"))
    tokenizer.pre_tokenizer = _SPLITTERS[rule]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(
                tokens, cast("list[int]", metadata["tokenizer.ggml.token_type"]), strict=True
            )
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    start = metadata.get("tokenizer.ggml.bos_token_id")
    if metadata.get("tokenizer.ggml.add_bos_token", rule == "llama-bpe") and isinstance(start, int):
        name = tokens[start]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{name} $A", special_tokens=[(name, start)]
        )
    json: str = tokenizer.to_str()
    return json


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _smollm() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


_SPLITTERS = {
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "qwen2": lambda: _split(_QWEN2),
    "llama-bpe": lambda: _split(_LLAMA3),
}
