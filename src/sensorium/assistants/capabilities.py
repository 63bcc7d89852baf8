"""What a model was taught, and which model to ask when none is named.

In: the folder of a run, or a task. Out: the tasks that were practised, each with the languages of its
answers, as the recipe beside the weights tells; the first model at hand that was taught a task. Weights are
not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from sensorium.core.config import read_toml
from sensorium.core.errors import ConfigError, NotFoundError, UsageError, warn
from sensorium.core.files import shipped_dir
from sensorium.data.curation.language import surely_other
from sensorium.data.table.sample import asked_of, is_asked
from sensorium.models.checkpoint import CONFIG, WEIGHTS
from sensorium.models.prompts import TEMPLATES, WRITER_OF, Task
from sensorium.training.recipe import recipes_dir
from sensorium.training.runs import RECIPE

Skills: TypeAlias = Mapping[Task, tuple[str, ...]]
"""By task the languages of its answers, as recipes write them; none: all, or not known."""

ABILITIES: Mapping[Task, str] = MappingProxyType(
    {
        "ask": "answers questions about media",
        "caption": "describes media",
        "transcribe": "writes down speech",
        "text": "answers questions",
        "translate": "translates",
        "draw": "draws pictures",
        "speak": "speaks",
    }
)
_ALWAYS: Mapping[Task, str] = MappingProxyType({"text": "smollm2", "transcribe": "whisper-tiny.en"})
"""Presets that are better at a task than what our recipes train."""
_PRESETS_KNOW: Mapping[str, tuple[str, ...]] = MappingProxyType({"smollm2": ("en",)})
"""Languages of presets whose skills name none."""
RUNS = Path("runs")
NOT_PACKAGED = (
    "models derived from GPL-2.0 data are in the repository, not in the package; "
    "give --model checkpoints/assistant of a checkout"
)


def skills_of(folder: Path) -> Skills:
    """What the model in a folder was taught.

    Args:
        folder: With `config.toml` and, where `sensorium train` wrote it, `recipe.toml`. Without a recipe, the
            model is trusted with all that its decoders could have been taught.
    """
    decoders = _values(folder / CONFIG).get("decoders")
    if not isinstance(decoders, Mapping):
        return {}
    practised = _practised(_values(folder / RECIPE))
    known: dict[Task, tuple[str, ...]] = {}
    for task, languages in practised:
        known[task] = tuple(dict.fromkeys([*known.get(task, ()), *languages]))
    if not practised and decoders:
        known = dict.fromkeys(TEMPLATES, ())
    return {task: languages for task, languages in known.items() if WRITER_OF[task] in decoders}


def _practised(recipe: Mapping[str, Any]) -> list[tuple[Task, list[str]]]:
    """Tasks of a recipe with their languages; none where it tells none, or is not laid out as a recipe."""
    if recipe.get("task") != "generate":
        return []
    try:
        found = [(one["task"], one.get("languages", ["en"])) for one in recipe["data"]["tasks"]]
        is_whole = all(task in TEMPLATES and isinstance(languages, list) for task, languages in found)
    except (KeyError, TypeError, AttributeError):
        return []
    return [(cast(Task, task), [*map(str, languages)]) for task, languages in found] if is_whole else []


def is_run(name: str | Path) -> bool:
    """Whether a name is that of a folder which `sensorium train` wrote, of several, or of what came along."""
    folder = _named(name)
    return _is_model(folder) or bool(members_of(folder))


def members_of(folder: Path) -> list[Path]:
    """Folders within one whose models answer, in the order of their names."""
    return [one for one in sorted(folder.glob("*")) if _is_model(one) and skills_of(one)]


def check_skill(name: str, skills: Skills, task: Task, language: str = "") -> None:
    """Refuse what a model was not taught.

    Raises:
        UsageError: With what it can do, and what to train.
    """
    if task not in skills:
        does = ", ".join(ABILITIES[one] for one in skills) or "answers nothing"
        raise UsageError(f"{name} {does}; for a model that {ABILITIES[task]}, {_how_to_get(task)}")
    if language and not is_asked(language, "text", skills[task]):
        known = ", ".join(skills[task])
        raise UsageError(f"{name} {ABILITIES[task]} into {known}, not into '{language}'; give one of these")


def warn_of_language(name: str, skills: Skills, task: Task, text: str, *, given: Sequence[str] = ()) -> None:
    """Warn of a text that is surely in a language which a model does not know.

    Args:
        name: Of the model.
        skills: What it was taught.
        task: What it is to do.
        text: A question, or what is to be spoken, drawn or translated.
        given: Languages that it knows of such texts, where they are not those of the skill.
    """
    known = given or asked_of("text", skills.get(task) or _PRESETS_KNOW.get(name, ()))
    found = surely_other(text, known)
    if found:
        language = "another language" if found == "und" else f"the language '{found}'"
        warn(
            f"the text seems to be in {language}, and {name}, which {ABILITIES[task]}, knows "
            f"{', '.join(known)} alone: expect little of the answer"
        )


def first_model(task: Task) -> str:
    """Name or place of the first model at hand that was taught a task.

    Looked through: presets that need no training, what is shipped, then `runs/` here.

    Raises:
        NotFoundError: If there is none; the message names the recipe that makes one.
    """
    if task in _ALWAYS:
        return _ALWAYS[task]
    found = next((folder for folder in _folders() if task in skills_of(folder)), None)
    if found is None:
        missing = "" if shipped_assistant().is_dir() else f"; {NOT_PACKAGED}"
        raise NotFoundError(f"no trained model {ABILITIES[task]} yet; {_how_to_get(task)}{missing}")
    return str(found)


def shipped_assistant() -> Path:
    """Where the assistant of the repository lies; a wheel has none, since it derives from GPL-2.0 data."""
    return shipped_dir("checkpoints") / "assistant"


def came_along(name: str) -> bool:
    """Whether a name is that of the shipped assistant or of a part of it: each knows what the others do."""
    return _named(name).resolve().is_relative_to(shipped_assistant().resolve())


def _named(name: str | Path) -> Path:
    """The folder of a name: one that is here goes before what came along."""
    return shipped_assistant() if name == "assistant" and not Path(name).exists() else Path(name).expanduser()


def _folders() -> Iterator[Path]:
    shipped = shipped_assistant()
    alone = sorted(shipped.parent.glob("*"))
    yield from filter(_is_model, (*alone, *members_of(shipped), *sorted(RUNS.glob("*"))))


def _is_model(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def _how_to_get(task: Task) -> str:
    if task in _ALWAYS:
        return f"take --model {_ALWAYS[task]}"
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
    """A TOML file; nothing where there is none, or none that can be read."""
    try:
        return read_toml(path)
    except (NotFoundError, ConfigError, OSError, RecursionError):
        return {}
