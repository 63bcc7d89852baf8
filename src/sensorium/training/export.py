"""Packs a trained model for sharing: int8 weights, complete, without paths of this machine.

In: a run's folder. Out: a folder with weights in 8 bits, configuration, card, recipe, and the codecs of the
model's decoders. Absolute paths become names. Weights that a package provides (a pretrained language model)
are not included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sensorium.core.config import read_toml, to_toml
from sensorium.core.errors import UsageError
from sensorium.core.files import write_atomic
from sensorium.models.checkpoint import load, save
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.training.runs import RECIPE, read_card


def pack(run: Path, folder: Path) -> int:
    """Pack a model; see the module.

    Args:
        run: Folder that `sensorium train` wrote.
        folder: Target; a model in it is replaced.

    Returns:
        Bytes of all files in `folder`.

    Raises:
        NotFoundError: If there is no model in `run`, or one of its codecs is missing.
        CheckpointError: If one is damaged.
        UsageError: If `folder` is the run itself, or a weight does not fit half precision.
    """
    if folder.resolve() == run.resolve():
        raise UsageError(f"{folder} is the run itself; give another folder")
    model: nn.Module = load(run, nn.Module)
    if isinstance(model, MultimodalLM):
        _pack_codecs(model, run, folder)
    if not all(bool(tensor.half().isfinite().all()) for tensor in model.state_dict().values()):
        raise UsageError(f"{run} has weights beyond half precision; give the folder as it is")
    save(model, folder, card=_without_places(read_card(run)), is_int8=True)
    if (run / RECIPE).is_file():
        write_atomic(folder / RECIPE, to_toml(_each_text(read_toml(run / RECIPE), _name)))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _pack_codecs(model: MultimodalLM, run: Path, folder: Path) -> None:
    """Pack the codecs of a model into subfolders, and refer to them there."""
    decoders = dict(model.config.decoders)
    for name, writer in decoders.items():
        if writer.codec:
            inside = run / Path(writer.codec).name
            given = inside if inside.is_dir() else Path(writer.codec).expanduser()
            pack(given, folder / given.name)
            decoders[name] = writer.model_copy(update={"codec": given.name})
    model.config = model.config.model_copy(update={"decoders": decoders})


def _without_places(card: str) -> str:
    """The text with every absolute path replaced by its last part."""
    return re.sub(r"(?<![\w.:/])(?:/[^\s/\"',\]}:]+)+", lambda found: _name(found[0]), card)


def _name(text: str) -> str:
    return Path(text).name if Path(text).is_absolute() else text


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """The same values with every string changed."""
    if isinstance(value, Mapping):
        return {key: _each_text(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_each_text(one, change) for one in value]
    return change(value) if isinstance(value, str) else value
