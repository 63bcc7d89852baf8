"""Constrained decoding by a JSON schema, a regular expression or a list of strings (llguidance).

Input: a tokenizer and a grammar. Output: a `Guide`, which masks each id after which the grammar cannot be
completed. A mask takes about 50 us. A sequence that ends by a stop id matches its grammar. One that is cut by
`max_tokens` matches a prefix of it. Needs the extra `constrained`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.runtime import require


class Grammars:
    """Builds guides for one tokenizer.

    Args:
        tokenizer_json: A tokenizer of the `tokenizers` package, as JSON.
        vocab_size: Number V of the model's ids; those that the tokenizer lacks are never allowed.
        stop_ids: Ids that end a sequence, as in the request. They are allowed where the grammar may end.

    Raises:
        MissingExtraError: Without llguidance.
    """

    def __init__(self, tokenizer_json: str, vocab_size: int, stop_ids: Collection[int]) -> None:
        if not stop_ids:
            raise UsageError("a grammar needs an id to end with; give stop_ids")
        self._library: Any = require("llguidance", "constrained")
        self._vocab_size = vocab_size
        self._tokenizer = self._library.LLTokenizer(tokenizer_json, eos_token=sorted(stop_ids))

    def json_schema(self, schema: Mapping[str, Any] | str) -> LlGuide:
        """Follow a JSON schema; `{}` is any JSON.

        Raises:
            UsageError: If it is not a schema, or has unsupported keywords; the message names them.
        """
        try:
            text = schema if isinstance(schema, str) else json.dumps(schema)
            return self._guide(self._library.LLMatcher.grammar_from_json_schema(text))
        except ValueError as error:
            raise UsageError(f"not a supported JSON schema: {_line(error)}") from error

    def regex(self, pattern: str) -> LlGuide:
        """Match a regular expression with the whole text.

        Raises:
            UsageError: If the pattern is not a supported regular expression.
        """
        return self._guide(self._library.LLMatcher.grammar_from_regex(pattern))

    def choice(self, options: Sequence[str]) -> LlGuide:
        """Generate one of some strings.

        Raises:
            UsageError: If there are none, or one is empty.
        """
        if not options or "" in options:
            raise UsageError(f"a choice needs strings that are not empty, got {list(options)}")
        alternatives = " | ".join(json.dumps(option, ensure_ascii=False) for option in options)
        return self._guide(self._library.LLMatcher.grammar_from_lark(f"start: {alternatives}"))

    def _guide(self, grammar: str) -> LlGuide:
        matcher = self._library.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise UsageError(f"not a supported grammar: {_line(matcher.get_error())}")
        return LlGuide(matcher, self._vocab_size)


class LlGuide:
    """State of one request's grammar: a `Guide`, used once."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def allowed(self) -> Bool[Tensor, " V"]:
        """Return the mask of allowed next ids (True: allowed)."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._raise()
        found = np.unpackbits(bits, bitorder="little")[: self._vocab_size].astype(bool)
        return torch.from_numpy(np.pad(found, (0, self._vocab_size - len(found))))

    def accept(self, chosen: int) -> None:
        """Advance the state by the chosen id."""
        self._matcher.consume_token(chosen)
        self._raise()

    @property
    def is_finished(self) -> bool:
        """Whether no id may follow."""
        return bool(self._matcher.is_stopped())

    def _raise(self) -> None:
        if self._matcher.is_error():
            raise UsageError(f"the text no longer matches the grammar: {_line(self._matcher.get_error())}")


def _line(error: object) -> str:
    return " ".join(str(error).split())
