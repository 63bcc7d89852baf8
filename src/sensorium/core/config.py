"""Typed configuration: frozen models that refuse unknown keys, read from TOML, overridden by `--set a.b=c`.

Input: TOML files and `KEY=VALUE` strings. Output: validated `Config` objects. Errors name the key, the value
and the nearest known key.
"""

from __future__ import annotations

import copy
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import tomli_w

from sensorium.core.errors import ConfigError, NotFoundError

C = TypeVar("C", bound="Config")


class Config(pydantic.BaseModel):
    """Base class of every configuration: frozen, typed, without unknown keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        NotFoundError: If there is no such file.
        ConfigError: If it is not TOML; the message names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def override(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Apply `a.b=c` overrides to nested values; `c` is parsed as a TOML value, or kept as text if that fails.

    Raises:
        ConfigError: If an override has no `=`, or its path passes through a value that is not a section.

    Example:
        >>> override({"train": {"lr": 0.1}}, ["train.lr=0.5", "train.name=fast"])
        {'train': {'lr': 0.5, 'name': 'fast'}}
    """
    result = copy.deepcopy(dict(values))
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {change}: expected KEY=VALUE, as in --set train.lr=0.001")
        *parents, leaf = key.strip().split(".")
        place = result
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {change}: '{name}' is a value, not a section")
        place[leaf] = _read_value(text.strip())
    return result


def parse(model: type[C], values: Mapping[str, Any], source: str) -> C:
    """Validate nested plain values against `model`; `source` is their origin, for the error message.

    Raises:
        ConfigError: With every problem in one line, and the nearest known key for an unknown one.
    """
    try:
        return model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        problems = "; ".join(_describe(model, problem) for problem in error.errors())
        raise ConfigError(f"{source}: {problems}") from error


def _describe(model: type[Config], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg'].lower()}, got {problem['input']!r}"
    known = list(_fields_at(model, problem["loc"][:-1]))
    near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return f"unknown key '{where}', {hint}"


def _fields_at(model: type[Config], location: Sequence[str | int]) -> list[str]:
    """Names allowed in the section at `location`; sections of mappings and lists are walked through."""
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        annotation = fields[part].annotation if part in fields else current
        current = next((kind for kind in _kinds(annotation) if hasattr(kind, "model_fields")), annotation)
    return list(getattr(current, "model_fields", {}))


def _kinds(annotation: Any) -> list[Any]:
    inner = [kind for part in getattr(annotation, "__args__", ()) for kind in _kinds(part)]
    return [annotation, *inner]


def _read_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def canonical(config: Config) -> str:
    """Serialise a configuration as JSON with sorted keys."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=True)


def to_toml(values: Mapping[str, Any]) -> str:
    """Write nested plain values as TOML that `read_toml` reads back equal; None is left out.

    Example:
        >>> print(to_toml({"lr": 0.1, "train": {"name": "a"}, "pairs": [{"a": 1}]}))
        lr = 0.1
        pairs = [
            { a = 1 },
        ]
        <BLANKLINE>
        [train]
        name = "a"
        <BLANKLINE>
    """
    return tomli_w.dumps(_without_none(values))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list | tuple) else value
