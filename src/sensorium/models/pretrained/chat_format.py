"""Chat format of a published model: its chat template, special tokens, and the ids that end a turn.

Input: the JSON files beside a tokenizer, or the metadata of a GGUF file. Output: a `ChatFormat`, which builds
the `Chat` and the end ids once the tokenizer is loaded. If a model has several named templates, the one named
`default` is used.

Reference: `from_pretrained` of transformers' tokenizers; `llama-vocab.cpp` of llama.cpp for end tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensorium.codecs.bpe import Bpe
from sensorium.codecs.chat import Chat, knows_chatml
from sensorium.core.errors import CheckpointError
from sensorium.models.pretrained.folder import read_text

_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_GGUF_NAMES = {
    "bos": "bos", "eos": "eos", "unknown": "unk", "seperator": "sep", "padding": "pad", "cls": "cls",
    "mask": "mask",
}  # fmt: skip
_TEMPLATE_FILE, _TEMPLATE_FOLDER = "chat_template.jinja", "additional_chat_templates"
_ENDS = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> "
    "<|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <|eot|>".split()
)
"""Control tokens that end a turn in every GGUF file, independent of its metadata."""


@dataclass(frozen=True)
class ChatFormat:
    """Chat settings that do not need the tokenizer.

    Attributes:
        named: Special tokens by their names in templates.
        template: Jinja text; empty: the model has none; None: it has several, but no default.
        end_ids: Ids that end a turn.
        ends: Special tokens that end a turn, if the tokenizer has them.
    """

    named: Mapping[str, object]
    template: str | None
    end_ids: frozenset[int]
    ends: frozenset[str]

    @property
    def special(self) -> list[str]:
        """Special tokens that have a name."""
        return [one for one in self.named.values() if isinstance(one, str)]

    def chat(self, tokenizer: Bpe) -> Chat | None:
        """Build the chat template, None if there is none; raises `CheckpointError` if it does not parse."""
        if self.template is None or not (self.template or knows_chatml(tokenizer)):
            return None
        return Chat(tokenizer, self.template, self.named)

    def all_ends(self, tokenizer: Bpe, chat: Chat | None) -> frozenset[int]:
        """Return all ids that end a turn, including the end that the template writes."""
        named = {tokenizer.special_ids[one] for one in self.ends if one in tokenizer.special_ids}
        written = None if chat is None else chat.turn_end
        found = self.end_ids | named | ({written} if written is not None else set())
        return frozenset(one for one in found if one < tokenizer.vocab_size)


def of_folder(
    folder: Path,
    settings: Mapping[str, Any],
    special_map: Mapping[str, Any],
    sources: Mapping[str, Mapping[str, Any]],
) -> ChatFormat:
    """Read the chat format of a Hugging Face folder; raises `CheckpointError` for values of the wrong type.

    Args:
        folder: Folder with template files.
        settings: Content of `tokenizer_config.json`.
        special_map: Content of `special_tokens_map.json`, where older folders name their special tokens.
        sources: By file name, contents that may have `eos_token_id`.
    """
    where = "tokenizer_config.json"
    named = _named(settings, where)
    if "added_tokens_decoder" not in settings:
        named |= _named(special_map, "special_tokens_map.json")
    ids: set[int] = set()
    for name, values in sources.items():
        ids.update(_ids(values.get("eos_token_id"), f"{name} has eos_token_id"))
    end = named.get("eos_token")
    return ChatFormat(
        named,
        _template(folder, settings.get("chat_template"), f"{where} has chat_template"),
        frozenset(ids),
        frozenset({end} if isinstance(end, str) else ()),
    )


def of_metadata(metadata: Mapping[str, Any]) -> ChatFormat:
    """Read the chat format of a GGUF file; raises `CheckpointError` for wrong types or unknown ids."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    pieces = tokens if isinstance(tokens, list) else []
    ids = {}
    for name in (*_GGUF_NAMES, "eot", "eom"):
        key = f"tokenizer.ggml.{name}_token_id"
        for number in _ids(metadata.get(key), key):
            if number >= len(pieces):
                raise CheckpointError(f"{key}={number} is not in the vocabulary of {len(pieces)} pieces")
            ids[name] = number
    template = metadata.get("tokenizer.chat_template", "")
    if not isinstance(template, str):
        raise CheckpointError(f"tokenizer.chat_template={template!r:.60}; expected a text")
    return ChatFormat(
        {f"{_GGUF_NAMES[name]}_token": str(pieces[one]) for name, one in ids.items() if name in _GGUF_NAMES},
        template,
        frozenset(ids[name] for name in ("eos", "eot", "eom") if name in ids),
        _ENDS,
    )


def _ids(value: object, what: str) -> Iterable[int]:
    """Ids of a setting: one, several or none; negative ids are ignored."""
    found: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in found):
        raise CheckpointError(f"{what}={value!r:.60}; expected an id or a list of ids")
    return [one for one in found if one >= 0]


def _named(settings: Mapping[str, Any], where: str) -> dict[str, object]:
    """Special tokens that templates may use by name; each is a text, or an object with `content`."""
    found: dict[str, object] = {}
    extra = settings.get("extra_special_tokens")
    given = {**settings, **(extra if isinstance(extra, Mapping) else {})}
    for name, value in given.items():
        text = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(text, str) and (name.endswith("_token") or name not in settings):
            found[name] = text
        elif value is not None and name.removesuffix("_token") in _NAMES and name.endswith("_token"):
            raise CheckpointError(f"{where} has {name}={value!r:.60}; expected a text")
    more = settings.get("additional_special_tokens")
    if isinstance(more, list):
        texts = [one.get("content") if isinstance(one, Mapping) else one for one in more]
        found["additional_special_tokens"] = [one for one in texts if isinstance(one, str)]
    return found


def _template(folder: Path, given: object, what: str) -> str | None:
    """The default template; files have precedence over settings."""
    files = sorted((folder / _TEMPLATE_FOLDER).glob("*.jinja"))
    by_name = {file.stem: read_text(file) for file in files if file.is_file()}
    if (folder / _TEMPLATE_FILE).is_file():
        by_name["default"] = read_text(folder / _TEMPLATE_FILE)
    if by_name:
        return by_name.get("default")
    if given is None or isinstance(given, str):
        return given or ""
    if isinstance(given, list) and all(isinstance(one, Mapping) and "name" in one for one in given):
        given = {str(one["name"]): one.get("template") for one in given}
    if not isinstance(given, Mapping) or not all(isinstance(one, str) for one in given.values()):
        raise CheckpointError(f"{what}={given!r:.60}; expected a text, or texts by name")
    return given.get("default") if given else ""
