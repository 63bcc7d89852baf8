"""Saves and loads models: a folder with `model.safetensors`, `config.toml` and `card.md`; no pickle.

The header of `model.safetensors` holds the model family (`FAMILIES`) and checksums of tensors and
configuration. Since this file is replaced atomically, it also tells whether the other files belong to it.
Long options, such as a tokenizer, are files of their own beside `config.toml`. Does not know training.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from safetensors.torch import save_file
from torch import Tensor, nn

from sensorium.core.config import Config, parse, read_toml, to_toml
from sensorium.core.errors import CheckpointError, ConfigError, NotFoundError, SensoriumError
from sensorium.core.files import replace_atomic, write_atomic
from sensorium.models.int8 import dequantise, quantise
from sensorium.models.tower import hash_tensors
from sensorium.models.weights import check_finite, check_floating, one_line, read_safetensors

if TYPE_CHECKING:
    from sensorium.models.grounder import Grounder
    from sensorium.models.joint_embedding import JointEmbedding

WEIGHTS = "model.safetensors"
CONFIG = "config.toml"
CARD = "card.md"
_LONG_TEXT, _MOST_TEXT = 1000, 2**28
_FILE = "file:"
_BUILD_ERRORS = (
    SensoriumError, ValueError, TypeError, KeyError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Family:
    """A model class: `CLASS(config, pretrained=False)` builds an instance, `.config` is its configuration.

    Attributes:
        name: Name in messages.
        module: Module of the class.
        model: Name of the class.
        config: Name of its configuration class.
        package: Package of the module.
    """

    name: str
    module: str
    model: str
    config: str
    package: str = "models"

    @property
    def model_class(self) -> type[nn.Module]:
        """The model class, imported on first use."""
        found: type[nn.Module] = getattr(self._imported(), self.model)
        return found

    @property
    def config_class(self) -> type[Config]:
        """The class of its configuration."""
        found: type[Config] = getattr(self._imported(), self.config)
        return found

    def _imported(self) -> ModuleType:
        return importlib.import_module(f"sensorium.{self.package}.{self.module}")


FAMILIES: Mapping[str, Family] = {
    "sensorium joint embedding 1": Family(
        "joint embedding", "joint_embedding", "JointEmbedding", "JointEmbeddingConfig"
    ),
    "sensorium grounder 1": Family("grounder", "grounder", "Grounder", "GrounderConfig"),
    "sensorium multimodal language model 1": Family(
        "multimodal language model", "multimodal_lm", "MultimodalLM", "MultimodalLMConfig"
    ),
    "sensorium audio codec 1": Family("audio codec", "audio_fsq", "AudioFsq", "AudioFsqConfig", "codecs"),
    "sensorium image codec 1": Family("image codec", "image_fsq", "ImageFsq", "ImageFsqConfig", "codecs"),
}
"""By the format in the header of `model.safetensors`."""


def save(model: nn.Module, folder: str | Path, *, card: str = "", is_int8: bool = False) -> Path:
    """Write `model` to `folder`; each file is replaced atomically, the weights last.

    Args:
        model: Model of a known family.
        folder: Created if missing; a model in it is replaced.
        card: Model card in Markdown: data, recipe, metrics, limits.
        is_int8: Whether to quantise weights (`models.int8`) and compress long texts.

    Returns:
        The folder.

    Example:
        >>> from tempfile import mkdtemp
        >>> from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
        >>> model = JointEmbedding(JointEmbeddingConfig(towers={"audio": {"encoder": "audio-cnn"}}))
        >>> load(save(model, mkdtemp())).fingerprint == model.fingerprint
        True
    """
    folder = Path(folder)
    format, config = _format_of(model), cast(Config, model.config)
    values, texts = config.model_dump(mode="json", exclude_none=True), dict[str, str]()
    write_atomic(
        folder / CARD,
        card or f"# {FAMILIES[format].name.capitalize()}\n\nIts training was not recorded.\n",
    )

    def externalise(name: str, text: str) -> str:
        if len(text) <= _LONG_TEXT:
            return text
        name += ".txt.gz" if is_int8 else ".txt"
        texts[name] = text
        return _FILE + name

    plain = _map_texts(values, externalise)
    for name, text in texts.items():
        write_atomic(folder / name, gzip.compress(text.encode(), mtime=0) if is_int8 else text)
    write_atomic(
        folder / CONFIG, f"# Configuration of the model beside it; read by sensorium.load.\n{to_toml(plain)}"
    )
    header = {"format": format, "config": _digest(values)}
    tensors = model.state_dict()
    write_tensors(folder / WEIGHTS, quantise(tensors) if is_int8 else tensors, header)
    return folder


@overload
def load(path: str | Path) -> JointEmbedding | Grounder: ...


@overload
def load(path: str | Path, kind: type[M]) -> M: ...


def load(path: str | Path, kind: type[nn.Module] = nn.Module) -> nn.Module:
    """Read a model that `save` wrote, in evaluation mode on the CPU.

    Args:
        path: Folder of the model.
        kind: Expected class; a model of another family is refused.

    Raises:
        NotFoundError: If there is no such folder.
        CheckpointError: If it is incomplete, damaged or of another family; the message names the file.
    """
    folder = Path(path)
    for name in (WEIGHTS, CONFIG):
        if not folder.is_dir():
            raise NotFoundError(f"no folder {folder}; give a folder that `sensorium train` wrote")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}; expected a folder with {WEIGHTS} and {CONFIG}")
    tensors, metadata = read_tensors(folder / WEIGHTS)
    family = _family_of(metadata.get("format", ""), folder, kind)
    config = _read_config(folder, family, metadata.get("config"))
    model = _build_empty(family, config, folder)
    _fill(model, dequantise(tensors), folder / WEIGHTS)
    return model.eval()


def _fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into a model; shapes and types must fit, and values must be finite."""
    floating = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    try:
        check_floating({name: tensor for name, tensor in state.items() if name in floating})
        model.load_state_dict(state)
        check_finite({name: tensor for name, tensor in model.state_dict().items() if name in state})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {CONFIG}: {one_line(error)}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors atomically, with `metadata` and a checksum of the tensors in the header."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {**metadata, "sha256": _tensor_digest(whole)}
    replace_atomic(path, lambda temporary: save_file(whole, temporary, metadata=header))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote; raises `CheckpointError` if the file is damaged."""
    tensors, metadata = read_safetensors(path)
    if metadata.pop("sha256", None) != _tensor_digest(tensors):
        raise CheckpointError(f"{path} is damaged: its checksum differs; restore it from a copy")
    return tensors, metadata


def _format_of(model: nn.Module) -> str:
    for format, family in FAMILIES.items():
        if type(model).__name__ == family.model:
            return format
    raise CheckpointError(
        f"cannot save a {type(model).__name__}; known: {', '.join(one.name for one in FAMILIES.values())}"
    )


def _family_of(format: str, folder: Path, kind: type[nn.Module]) -> Family:
    if format not in FAMILIES:
        raise CheckpointError(f"{folder / WEIGHTS} is '{format}'; expected one of {', '.join(FAMILIES)}")
    family = FAMILIES[format]
    if not issubclass(family.model_class, kind):
        wanted = next((one.name for one in FAMILIES.values() if one.model == kind.__name__), kind.__name__)
        raise CheckpointError(f"{folder} holds a {family.name}; this needs a {wanted}: give another --model")
    return family


def _read_config(folder: Path, family: Family, digest: str | None) -> Config:
    try:
        values = _map_texts(read_toml(folder / CONFIG), lambda _, text: _read_text(text, folder))
        config = parse(family.config_class, values, str(folder / CONFIG))
        is_same = _digest(values) == digest
    except (ConfigError, NotFoundError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise CheckpointError(f"{folder}: {one_line(error)}") from error
    except (ValueError, TypeError) as error:  # not UTF-8, no name of a file, dates
        raise CheckpointError(f"{folder / CONFIG} cannot be read: {one_line(error)}; restore it") from error
    if not is_same:
        raise CheckpointError(f"{folder / CONFIG} is not the one that {WEIGHTS} was saved with; restore it")
    return config


def _build_empty(family: Family, config: Config, folder: Path) -> nn.Module:
    try:
        return family.model_class(config, pretrained=False)
    except _BUILD_ERRORS as error:
        raise CheckpointError(f"{folder / CONFIG} does not build: {one_line(error)}") from error


def _map_texts(
    values: Mapping[str, Any], change: Callable[[str, str], str], path: str = ""
) -> dict[str, Any]:
    """Apply `change(name, text)` to every text in nested values; the name is its dotted path."""
    result = dict(values)
    for key, value in values.items():
        if isinstance(value, Mapping):
            result[key] = _map_texts(value, change, path if key in ("towers", "options") else f"{path}{key}.")
        elif isinstance(value, str):
            result[key] = change(path + key, value)
    return result


def _read_text(text: str, folder: Path) -> str:
    """Return a text of the configuration, or the content of the file that it refers to."""
    if not text.startswith(_FILE):
        return text
    path = folder / Path(text.removeprefix(_FILE)).name
    if path.suffix != ".gz":
        return path.read_text(encoding="utf-8")
    with gzip.open(path) as file:
        found = file.read(_MOST_TEXT + 1)
    if len(found) > _MOST_TEXT:
        raise CheckpointError(f"{path} is longer than {_MOST_TEXT:,} bytes; restore it from a copy")
    return found.decode()


def _digest(values: Mapping[str, Any]) -> str:
    """Hash of the values as written, so that options added by later versions do not change it."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _tensor_digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    hash_tensors(digest, tensors)
    return digest.hexdigest()
