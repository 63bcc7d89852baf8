"""Reads which tasks a model was trained for, and chooses a model for a task when none is named.

Tasks and their languages come from the recipe beside the weights; weights are not read. `check_capability`
refuses a task, `warn_of_language` warns of a language, that a model was not trained for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from sensorium.core.config import read_toml
from sensorium.core.errors import ConfigError, NotFoundError, UsageError, warn
from sensorium.core.files import shipped_dir
from sensorium.data.curation.language import detect_foreign
from sensorium.data.table.sample import asked_of, is_asked
from sensorium.models.checkpoint import CONFIG, WEIGHTS
from sensorium.models.prompts import DECODER_OF, TEMPLATES, Task
from sensorium.training.recipe import recipes_dir
from sensorium.training.runs import RECIPE

Capabilities: TypeAlias = Mapping[Task, tuple[str, ...]]
"""Languages of the answers by task, as recipes write them; an empty tuple: all, or not known."""

_DESCRIPTIONS: Mapping[Task, str] = MappingProxyType(
    {
        "ask": "answers questions about media",
        "caption": "describes media",
        "transcribe": "transcribes speech",
        "text": "answers questions",
        "translate": "translates",
        "draw": "draws images",
        "speak": "speaks",
    }
)
_PREFERRED: Mapping[Task, str] = MappingProxyType({"text": "smollm2", "transcribe": "whisper-tiny.en"})
"""Presets that are better at a task than models trained by our recipes."""
_PRESET_LANGUAGES: Mapping[str, tuple[str, ...]] = MappingProxyType({"smollm2": ("en",)})
"""Languages of presets, which have no recipe."""
RUNS = Path("runs")
NOT_PACKAGED = (
    "models derived from GPL-2.0 data are in the repository, not in the package; "
    "give --model checkpoints/assistant of a checkout"
)


def capabilities_of(folder: Path) -> Capabilities:
    """Read the capabilities of the model in a folder.

    Args:
        folder: Holds `config.toml` and, where `sensorium train` wrote it, `recipe.toml`. Without a recipe,
            all tasks count that the model's decoders could have been trained for.
    """
    decoders = _values(folder / CONFIG).get("decoders")
    if not isinstance(decoders, Mapping):
        return {}
    trained = _recipe_tasks(_values(folder / RECIPE))
    known: dict[Task, tuple[str, ...]] = {}
    for task, languages in trained:
        known[task] = tuple(dict.fromkeys([*known.get(task, ()), *languages]))
    if not trained and decoders:
        known = dict.fromkeys(TEMPLATES, ())
    return {task: languages for task, languages in known.items() if DECODER_OF[task] in decoders}


def _recipe_tasks(recipe: Mapping[str, Any]) -> list[tuple[Task, list[str]]]:
    """Tasks of a recipe with their languages; none where it names none, or is malformed."""
    if recipe.get("task") != "generate":
        return []
    try:
        found = [(one["task"], one.get("languages", ["en"])) for one in recipe["data"]["tasks"]]
        is_whole = all(task in TEMPLATES and isinstance(languages, list) for task, languages in found)
    except (KeyError, TypeError, AttributeError):
        return []
    return [(cast(Task, task), [*map(str, languages)]) for task, languages in found] if is_whole else []


def is_run(name: str | Path) -> bool:
    """Whether a name is that of a run folder, of a folder of such, or of the shipped assistant."""
    folder = _named(name)
    return _is_model(folder) or bool(members_of(folder))


def members_of(folder: Path) -> list[Path]:
    """Subfolders with generative models, sorted by name."""
    return [one for one in sorted(folder.glob("*")) if _is_model(one) and capabilities_of(one)]


def check_capability(name: str, capabilities: Capabilities, task: Task, language: str = "") -> None:
    """Refuse a task or a language that a model was not trained for.

    Raises:
        UsageError: It names the model's tasks, and what to train.
    """
    if task not in capabilities:
        does = ", ".join(_DESCRIPTIONS[one] for one in capabilities) or "answers nothing"
        raise UsageError(f"{name} {does}; for a model that {_DESCRIPTIONS[task]}, {_how_to_get(task)}")
    if language and not is_asked(language, "text", capabilities[task]):
        known = ", ".join(capabilities[task])
        raise UsageError(
            f"{name} {_DESCRIPTIONS[task]} into {known}, not into '{language}'; give one of these"
        )


def warn_of_language(
    name: str, capabilities: Capabilities, task: Task, text: str, *, given: Sequence[str] = ()
) -> None:
    """Warn if a text is surely in a language that a model does not know.

    Args:
        name: Of the model.
        capabilities: Of the model.
        task: What is asked for.
        text: A question, or a text to speak, draw or translate.
        given: Languages of its input, where they differ from those of its answers.
    """
    known = given or asked_of("text", capabilities.get(task) or _PRESET_LANGUAGES.get(name, ()))
    found = detect_foreign(text, known)
    if found:
        language = "another language" if found == "und" else f"the language '{found}'"
        warn(
            f"the text seems to be in {language}, and {name}, which {_DESCRIPTIONS[task]}, knows "
            f"only {', '.join(known)}: the answer may be wrong"
        )


def first_model(task: Task) -> str:
    """Name or path of the first available model for a task.

    Order: presets that need no training, shipped models, then `runs/` in the working directory.

    Raises:
        NotFoundError: If there is none; the message names the recipe that makes one.
    """
    if task in _PREFERRED:
        return _PREFERRED[task]
    found = next((folder for folder in _folders() if task in capabilities_of(folder)), None)
    if found is None:
        missing = "" if shipped_assistant().is_dir() else f"; {NOT_PACKAGED}"
        raise NotFoundError(f"no trained model {_DESCRIPTIONS[task]} yet; {_how_to_get(task)}{missing}")
    return str(found)


def shipped_assistant() -> Path:
    """Folder of the repository's assistant; a wheel has none, since it derives from GPL-2.0 data."""
    return shipped_dir("checkpoints") / "assistant"


def is_shipped(name: str) -> bool:
    """Whether a name is that of the shipped assistant or of one of its members."""
    return _named(name).resolve().is_relative_to(shipped_assistant().resolve())


def _named(name: str | Path) -> Path:
    """The folder of a name; one in the working directory goes before the shipped one."""
    return shipped_assistant() if name == "assistant" and not Path(name).exists() else Path(name).expanduser()


def _folders() -> Iterator[Path]:
    shipped = shipped_assistant()
    alone = sorted(shipped.parent.glob("*"))
    yield from filter(_is_model, (*alone, *members_of(shipped), *sorted(RUNS.glob("*"))))


def _is_model(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def _how_to_get(task: Task) -> str:
    if task in _PREFERRED:
        return f"use --model {_PREFERRED[task]}"
    names = [
        path.stem
        for path in sorted(recipes_dir().glob("*.toml"))
        if not path.stem.endswith("-further")  # it goes on with what another recipe began
        for values in [_values(path)]
        if values.get("task") == "generate" and task in {one["task"] for one in values["data"]["tasks"]}
    ]
    commands = " or ".join(f"`sensorium train {name}`" for name in names)
    return f"train one with {commands} and give --model runs/{names[0]}"


def _values(path: Path) -> Mapping[str, Any]:
    """Read a TOML file; an empty mapping if it is missing or cannot be read."""
    try:
        return read_toml(path)
    except (NotFoundError, ConfigError, OSError, RecursionError):
        return {}
