"""Builds the tokenizer that a GGUF file describes, as JSON of the `tokenizers` package.

Input: metadata (tokens, token types, merges, name of the pre-tokenizer). Output: JSON for `codecs.bpe.Bpe`.
Only byte-level BPE with the pre-tokenizers below is supported; others are refused, since a wrong one would
silently give wrong ids.

Reference: `llama-vocab.cpp` of llama.cpp for pre-tokenizers by name, and the published tokenizer files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.gguf import Value
from sensorium.models.pretrained.settings import Settings, short_repr
from sensorium.models.weights import one_line

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def tokenizer_json(metadata: Mapping[str, Value]) -> str:
    """Build the tokenizer; raises `CheckpointError` if it is not supported, or keys are inconsistent."""
    meta = Settings(metadata, "the metadata")
    kind, rule = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre") or "default"
    if kind != "gpt2" or not isinstance(rule, str) or rule not in _SPLITTERS:
        found, known = f"{short_repr(kind)} with rule {short_repr(rule)}", ", ".join(_SPLITTERS)
        raise CheckpointError(f"tokenizer {found} is not supported; supported: gpt2 with {known}")
    try:
        json: str = _built(meta, rule).to_str()
    except CheckpointError:
        raise
    except Exception as error:  # the package raises bare Exception
        raise CheckpointError(f"the tokenizer of the metadata does not build: {one_line(error)}") from error
    return json


def _built(meta: Settings, rule: str) -> Tokenizer:
    tokens = _tokens(meta)
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, _merges(meta, vocab), ignore_merges=rule == "llama-bpe"))
    tokenizer.pre_tokenizer = _SPLITTERS[rule]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, _kinds(meta, len(tokens)), strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    if meta.get("tokenizer.ggml.bos_token_id") is not None:
        start = token_id(meta, "bos", len(tokens))
        if meta.flag("tokenizer.ggml.add_bos_token", default=rule == "llama-bpe"):
            name = tokens[start]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{name} $A", special_tokens=[(name, start)]
            )
    return tokenizer


def check_special_ids(metadata: Mapping[str, Value]) -> None:
    """Raise `CheckpointError` for the first special token id that is not in the vocabulary."""
    meta = Settings(metadata, "the metadata")
    num_tokens = len(_tokens(meta))
    for key in metadata:
        match = re.fullmatch(r"tokenizer\.ggml\.(\w+)_token_id", key)
        if match:
            token_id(meta, match[1], num_tokens)


def token_id(meta: Settings, name: str, num_tokens: int) -> int:
    """Return the id of a special token; it must be in the vocabulary."""
    key = f"tokenizer.ggml.{name}_token_id"
    found = meta.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < num_tokens:
        raise meta.error(key, f"an id from 0 to {num_tokens - 1}")
    return found


def _tokens(meta: Settings) -> list[str]:
    key = "tokenizer.ggml.tokens"
    tokens = _texts(meta, key)
    if not tokens:
        raise meta.error(key, "at least one token")
    if len(set(tokens)) < len(tokens):
        twice = next(token for token, count in Counter(tokens).items() if count > 1)
        raise CheckpointError(
            f"{meta.source} has the token {short_repr(twice)} twice in {key}; expected each once"
        )
    return tokens


def _merges(meta: Settings, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    key, pairs = "tokenizer.ggml.merges", []
    for merge in _texts(meta, key):
        left, _, right = merge.partition(" ")
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise CheckpointError(
                f"{meta.source} has the merge {short_repr(merge)} in {key}; expected two of the tokens"
            )
        pairs.append((left, right))
    return pairs


def _kinds(meta: Settings, num_tokens: int) -> list[int]:
    """Type of each token; by default all are normal, as in llama.cpp."""
    key = "tokenizer.ggml.token_type"
    kinds = meta.get(key)
    if kinds is None:
        return [_NORMAL] * num_tokens
    is_list = isinstance(kinds, list) and all(type(kind) is int for kind in kinds)
    if not isinstance(kinds, list) or not is_list or len(kinds) != num_tokens:
        raise meta.error(key, f"{num_tokens} whole numbers, one for each token")
    return kinds


def _texts(meta: Settings, key: str) -> list[str]:
    values = meta.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise meta.error(key, "a list of texts")
    return values


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
