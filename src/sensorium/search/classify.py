"""Zero-shot classification of files by class names.

Input: files, class names, prompt templates. Output: the most probable classes of each file; probabilities are
softmax(logit_scale * cosine) over all classes. Reference: Radford et al. (CLIP), arXiv 2103.00020, section
3.1.
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
class Classified:
    """Classes of one file.

    Attributes:
        path: The file.
        labels: Class and probability, the most probable first; empty if the file cannot be read.
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
) -> list[Classified]:
    """Classify files of any modality that the model embeds.

    Args:
        files: Media files.
        labels: At least two class names.
        model: A model with a text tower.
        templates: Prompts, with `{c}` for the name; their vectors are averaged.
        k: Number of classes to return for each file.
        progress: Called after each file.

    Raises:
        UsageError: If there are fewer than two classes, a class is repeated, or the model embeds no text.
        NotFoundError: If a file does not exist.
    """
    _check(files, labels, k)
    classes = class_vectors(
        labels, lambda texts: model.embed([Text(one) for one in texts]).vectors, templates
    )
    scale = float(model.logit_scale.detach())
    results = []
    for done, path in enumerate(files, start=1):
        try:
            vector = model.embed([path]).vectors[0]
        except SensoriumError as error:
            results.append(Classified(path, (), str(error)))
        else:
            results.append(Classified(path, _best(scale * (classes @ vector), labels, k)))
        progress(done, len(files), "classifying")
    return results


def read_labels(path: Path) -> list[str]:
    """Read class names from a text file, one per line; empty lines and lines that begin with # are skipped.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If it is not a text.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}; give a text file with one class a line")
    found = open_media(path)
    if not isinstance(found, Text):
        raise UsageError(f"{path} is not a text; give a text file with one class a line")
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
