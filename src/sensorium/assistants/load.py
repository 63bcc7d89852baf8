"""`sensorium.load`: loads any model by name or path.

A name is a preset, a run folder, a folder in Hugging Face layout, a `.gguf` file, or `hf:OWNER/NAME`. The
result is a joint embedding, a grounder or an assistant; the folder's files tell which.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

from sensorium.assistants.assistant import Assistant
from sensorium.assistants.capabilities import NOT_PACKAGED, members_of, shipped_assistant
from sensorium.assistants.multimodal_assistant import with_codecs
from sensorium.assistants.router import AssistantRouter
from sensorium.assistants.text_assistant import TextAssistant
from sensorium.assistants.transcription import TranscriptionAssistant
from sensorium.core.errors import CheckpointError, NotFoundError, UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.models import checkpoint
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.pretrained import hub
from sensorium.models.pretrained.folder import read_json
from sensorium.models.pretrained.llama import FAMILIES
from sensorium.models.pretrained.settings import short_repr
from sensorium.models.pretrained.text_model import open_text_model
from sensorium.speech.transcribe import load_transcriber

if TYPE_CHECKING:
    from sensorium.models.grounder import Grounder
    from sensorium.models.joint_embedding import JointEmbedding

    Model: TypeAlias = JointEmbedding | Grounder | Assistant

M = TypeVar("M")


@dataclass(frozen=True)
class Preset:
    """A model with a name.

    Attributes:
        load: Loads it.
        summary: One line for lists.
    """

    load: Callable[[Progress], Assistant]
    summary: str


@overload
def load(name: str | Path, *, progress: Progress = ...) -> Model: ...


@overload
def load(name: str | Path, kind: type[M], *, progress: Progress = ...) -> M: ...


def load(name: str | Path, kind: type = object, *, progress: Progress = quiet) -> object:
    """Load a model.

    Args:
        name: A preset (`sensorium models` lists them); a folder that `sensorium train` wrote, one of several
            such folders whose models answer as one, or one in Hugging Face layout; a `.gguf` file; or
            `hf:OWNER/NAME`, from the hub client's local cache if it is there.
        kind: The expected class; a model of another is refused.
        progress: Told what is being fetched.

    Raises:
        NotFoundError: If there is nothing of this name.
        CheckpointError: If it is damaged or of an unsupported kind.
        FetchError: If it cannot be fetched.
        MissingExtraError: If a `hf:` name is given without the hub's client.
    """
    model = _load(name, progress)
    if not isinstance(model, kind):
        raise CheckpointError(f"{name} is a {type(model).__name__}; this needs a {kind.__name__}")
    return model


def _load(name: str | Path, progress: Progress) -> object:
    path = Path(name).expanduser()
    if isinstance(name, str) and name.startswith(hub.PREFIX):
        path = hub.from_hub(name)
    elif isinstance(name, str) and name in PRESETS and not path.exists():
        return PRESETS[name].load(progress)
    if path.suffix == ".gguf":
        return TextAssistant(open_text_model(path), path.stem)
    if path.is_dir() and (path / "config.json").is_file():
        return _from_folder(path)
    if not path.is_dir():
        raise NotFoundError(f"no model '{name}'{_hint(str(name))}; give a folder, a .gguf file or a preset")
    if (members := members_of(path)) and not (path / checkpoint.WEIGHTS).exists():
        return AssistantRouter(path.name, [load_assistant(one, progress=progress) for one in members])
    found = checkpoint.load(path)
    return with_codecs(found, path) if isinstance(found, MultimodalLM) else found


def load_assistant(name: str | Path, *, progress: Progress = quiet) -> Assistant:
    """Load an assistant.

    Raises:
        UsageError: If the model is of another kind; what `load` raises.
    """
    model = load(name, progress=progress)
    if not isinstance(model, Assistant):
        raise UsageError(f"{name} is a {type(model).__name__}, which does not converse; try --model smollm2")
    return model


def load_smollm2(progress: Progress = quiet) -> TextAssistant:
    """SmolLM2-135M-Instruct, fetched on first use."""
    return TextAssistant(open_text_model("smollm2", progress=progress), "smollm2")


def _load_shipped_assistant(progress: Progress = quiet) -> Assistant:
    """The assistant of the repository.

    Raises:
        NotFoundError: If it is not there, as in an installed wheel; the message says how to get one.
    """
    folder = shipped_assistant()
    if not folder.is_dir():
        raise NotFoundError(
            f"no trained assistant here: {NOT_PACKAGED}; or train one: `sensorium train assistant`, "
            "and give --model runs/assistant"
        )
    return load_assistant(folder, progress=progress)


def _from_folder(folder: Path) -> object:
    """Load a folder in Hugging Face layout by the family in its `config.json`."""
    family = read_json(folder / "config.json").get("model_type")
    if family in FAMILIES:
        return TextAssistant(open_text_model(folder), folder.name)
    if family == "whisper" or (family is None and (folder / "model.bin").is_file()):
        return TranscriptionAssistant(load_transcriber(folder), folder.name)
    known = ", ".join((*FAMILIES, "whisper"))
    raise CheckpointError(f"{folder} holds a {short_repr(family)}; supported: {known}")


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, PRESETS, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smollm2": Preset(
            load_smollm2,
            "SmolLM2-135M-Instruct: chats, writes text and short code in English (93 MB)",
        ),
        "whisper-tiny.en": Preset(
            lambda progress: TranscriptionAssistant(load_transcriber(progress=progress)),
            "Whisper tiny.en: transcribes English speech (71 MB)",
        ),
        "assistant": Preset(
            _load_shipped_assistant,
            "answers about images, transcribes, translates, draws and speaks: small models of our own",
        ),
    }
)
