"""Sort files into classes that are given as words, without training (zero-shot).

In: files, class names, prompts. Out: for each file the most probable classes, softmax(logit_scale *
cosine) over all of them. Reference: Radford et al., arXiv 2103.00020, §3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import NotFoundError, SensoriumError, UsageError
from sensorium.core.runtime import Progress, quiet
from sensorium.evals import class_vectors
from sensorium.evals.zero_shot import PHOTO
from sensorium.media import Text
from sensorium.media import open as open_media
from sensorium.models.joint_embedding import JointEmbedding


@dataclass(frozen=True)
class Guess:
    """What a file is taken for.

    Attributes:
        path: The file.
        labels: Class and probability, the most probable first; empty where the file cannot be read.
        error: Why it cannot be read.
    """

    path: Path
    labels: Sequence[tuple[str, float]]
    error: str = ""


def classify(
    files: Sequence[Path],
    labels: Sequence[str],
    model: JointEmbedding,
    *,
    templates: Sequence[str] = PHOTO,
    k: int = 5,
    progress: Progress = quiet,
) -> list[Guess]:
    """Classify files of any modality that the model embeds.

    Args:
        files: Media files.
        labels: At least two class names.
        model: With a text tower.
        templates: Prompts; `{c}` stands for the name. Their vectors are averaged.
        k: Classes to give for each file.
        progress: Told after each file.

    Raises:
        UsageError: If there are fewer than two classes, one comes twice, or the model embeds no text.
        NotFoundError: If a file is not there.
    """
    _check(files, labels, k)
    classes = class_vectors(
        labels, lambda texts: model.embed([Text(one) for one in texts]).vectors, templates
    )
    scale = float(model.logit_scale.detach())
    guesses = []
    for done, path in enumerate(files, start=1):
        try:
            vector = model.embed([path]).vectors[0]
        except SensoriumError as error:
            guesses.append(Guess(path, (), str(error)))
        else:
            guesses.append(Guess(path, _best(scale * (classes @ vector), labels, k)))
        progress(done, len(files), "classifying")
    return guesses


def read_labels(path: Path) -> list[str]:
    """Class names from a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        NotFoundError: If there is no such file.
        MediaError: If it is not a text.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}; give a text file with one class a line")
    found = open_media(path)
    if not isinstance(found, Text):
        raise UsageError(f"{path} is no text; give a text file with one class a line")
    lines = (line.strip() for line in found.text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _check(files: Sequence[Path], labels: Sequence[str], k: int) -> None:
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise NotFoundError(f"no file {missing[0]}; give the paths of media files")
    if len(labels) < 2:
        raise UsageError(f"{len(labels)} classes; give two at least, as in --labels 'a cat,a dog'")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise UsageError(f"class '{twice}' is given twice; give each once")
    if k < 1:
        raise UsageError(f"k={k}; ask for at least 1 class")


def _best(logits: Float32[np.ndarray, " C"], labels: Sequence[str], k: int) -> list[tuple[str, float]]:
    exponents = np.exp(logits - logits.max())
    shares = exponents / exponents.sum()
    order = np.argsort(-shares, kind="stable")[:k]
    return [(labels[place], float(shares[place])) for place in order.tolist()]
