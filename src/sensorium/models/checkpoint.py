"""A model on disk: a folder with `model.safetensors`, `config.toml` and `card.md`; no pickle anywhere.

`model.safetensors` carries checksums of its tensors and of the configuration in its header, so that the one
file whose replacement is atomic also says whether its neighbours belong to it. Long texts among the options
(a tokenizer) stand in files of their own beside `config.toml`. Does not know how models are trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sensorium.core.config import parse, read_toml, to_toml
from sensorium.core.errors import CheckpointError, ConfigError, NotFoundError, SensoriumError
from sensorium.core.files import replace_atomic, write_atomic
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig, canonical
from sensorium.models.tower import hash_tensors

WEIGHTS = "model.safetensors"
CONFIG = "config.toml"
CARD = "card.md"
FORMAT = "sensorium joint embedding 1"
_LONG_TEXT = 1000
_FILE = "file:"


def save(model: JointEmbedding, folder: str | Path, *, card: str = "") -> Path:
    """Write `model` to `folder`, each file whole or not at all, the weights last.

    Args:
        model: What to keep.
        folder: Made if missing; a model in it is replaced.
        card: Markdown: data, recipe, metrics, limits.

    Returns:
        The folder.

    Example:
        >>> from tempfile import mkdtemp
        >>> model = JointEmbedding(JointEmbeddingConfig(towers={"audio": {"encoder": "audio-cnn"}}))
        >>> load(save(model, mkdtemp())).fingerprint == model.fingerprint
        True
    """
    folder = Path(folder)
    config = model.config.model_dump(mode="json")
    texts: dict[str, str] = {}
    write_atomic(folder / CARD, card or _plain_card(model))
    plain = _long_texts_out(config, texts, ())
    for name, text in texts.items():
        write_atomic(folder / name, text)
    write_atomic(
        folder / CONFIG, f"# Configuration of the model beside it; read by sensorium.load.\n{to_toml(plain)}"
    )
    write_tensors(
        folder / WEIGHTS, model.state_dict(), {"format": FORMAT, "config": _config_digest(model.config)}
    )
    return folder


def load(path: str | Path) -> JointEmbedding:
    """Read a model that `save` wrote, in evaluation mode on the CPU.

    Args:
        path: The model's folder.

    Raises:
        NotFoundError: If there is no such folder.
        CheckpointError: If it is incomplete, damaged or of another kind; the message names the file.
    """
    folder = Path(path)
    for name in (WEIGHTS, CONFIG):
        if not folder.is_dir():
            raise NotFoundError(f"no folder {folder}; give a folder that `sensorium train` wrote")
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}; expected a model folder with {WEIGHTS} and {CONFIG}"
            )
    config = _read_config(folder)
    tensors, metadata = read_tensors(folder / WEIGHTS)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{folder / WEIGHTS} is '{metadata.get('format')}'; expected '{FORMAT}'")
    if metadata.get("config") != _config_digest(config):
        raise CheckpointError(
            f"{folder / CONFIG} is not the configuration that {WEIGHTS} was saved with; restore it"
        )
    model = _build_empty(config, folder)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit {CONFIG}: {_one_line(error)}") from error
    return model.eval()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors atomically with a checksum of their content, and `metadata`, in the header."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {**metadata, "sha256": _tensor_digest(whole)}
    replace_atomic(path, lambda temporary: save_file(whole, temporary, metadata=header))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote.

    Returns:
        The tensors, and the metadata.

    Raises:
        CheckpointError: If the file is cut short, damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {_one_line(error)}") from error
    if metadata.pop("sha256", None) != _tensor_digest(tensors):
        raise CheckpointError(f"{path} is damaged: its checksum differs; restore it from a copy")
    return tensors, metadata


def _read_config(folder: Path) -> JointEmbeddingConfig:
    try:
        return parse(
            JointEmbeddingConfig, _long_texts_in(read_toml(folder / CONFIG), folder), str(folder / CONFIG)
        )
    except (ConfigError, NotFoundError, OSError) as error:
        raise CheckpointError(f"{folder}: {_one_line(error)}") from error


def _build_empty(config: JointEmbeddingConfig, folder: Path) -> JointEmbedding:
    try:
        return JointEmbedding(config, pretrained=False)
    except SensoriumError as error:
        raise CheckpointError(f"{folder / CONFIG} does not build: {_one_line(error)}") from error


def _long_texts_out(
    values: Mapping[str, Any], texts: dict[str, str], path: tuple[str, ...]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result[key] = _long_texts_out(value, texts, (*path, key))
        elif isinstance(value, str) and len(value) > _LONG_TEXT:
            name = ".".join([*(part for part in path if part not in ("towers", "options")), key]) + ".txt"
            texts[name] = value
            result[key] = _FILE + name
        else:
            result[key] = value
    return result


def _long_texts_in(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result[key] = _long_texts_in(value, folder)
        elif isinstance(value, str) and value.startswith(_FILE):
            result[key] = (folder / Path(value.removeprefix(_FILE)).name).read_text(encoding="utf-8")
        else:
            result[key] = value
    return result


def _config_digest(config: JointEmbeddingConfig) -> str:
    return hashlib.sha256(canonical(config).encode()).hexdigest()


def _tensor_digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    hash_tensors(digest, tensors)
    return digest.hexdigest()


def _plain_card(model: JointEmbedding) -> str:
    towers = "\n".join(f"- {name}: `{tower.encoder}`" for name, tower in model.config.towers.items())
    return f"# Joint embedding\n\nVectors of {model.config.dim} numbers from\n{towers}\n"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
