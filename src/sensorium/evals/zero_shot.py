"""Zero-shot classification: class vectors from prompts, and accuracy metrics.

Input: class names, prompt templates and a function that embeds texts; scores and labels. Output: one vector
for each class; accuracies. The protocol is that of CLIP_benchmark (`zeroshot_classification`): prompt vectors
are normalised, averaged over templates and normalised again; mean per-class recall is over the classes that
occur. Of equal scores the lower class ranks first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from sensorium.core.errors import UsageError
from sensorium.evals.retrieval import ranks_of

PLAIN = ("{c}",)
PHOTO = ("a photo of a {c}.", "a drawing of a {c}.", "a picture of a {c}.", "{c}")
"""Templates for images of objects."""


@dataclass(frozen=True)
class Accuracy:
    """Classification accuracy.

    Attributes:
        acc1: Top-1 accuracy.
        acc5: Top-5 accuracy; None below five classes.
        mean_per_class_recall: Top-1 accuracy within each class that occurs, averaged over these classes.
        chance: acc1 of guessing, 1 / C.
        num_samples: Number of samples.
        num_classes: C.
    """

    acc1: float
    acc5: float | None
    mean_per_class_recall: float
    chance: float
    num_samples: int
    num_classes: int


def class_vectors(
    names: Sequence[str],
    embed: Callable[[list[str]], Float32[np.ndarray, "n E"]],
    templates: Sequence[str] = PLAIN,
) -> Float32[np.ndarray, "C E"]:
    """One unit vector for each class: the normalised mean of its prompt vectors.

    Args:
        names: Class names.
        embed: Embeds texts; vectors of any norm.
        templates: Each contains `{c}`, which is replaced by the name.

    Raises:
        UsageError: If there is no name or template, or a template lacks `{c}`.
    """
    if not names or not templates:
        raise UsageError(
            f"{len(names)} classes and {len(templates)} templates; expected at least one of each"
        )
    for template in templates:
        if "{c}" not in template:
            raise UsageError(
                f"template '{template}' has no place for the class; write e.g. 'a photo of a {{c}}.'"
            )
    prompts = [template.replace("{c}", name) for name in names for template in templates]
    vectors = _unit(embed(prompts)).reshape(len(names), len(templates), -1)
    return _unit(vectors.mean(axis=1))


def accuracy(scores: Float[np.ndarray, "n C"], labels: Int64[np.ndarray, " n"]) -> Accuracy:
    """Compute accuracies from the scores of samples (rows) for classes (columns).

    Raises:
        UsageError: If there is no sample, a label is not a class or a score is not finite.

    Example:
        >>> accuracy(np.eye(3), np.array([0, 1, 0])).mean_per_class_recall  # class 0: 1/2, class 1: 1
        0.75
    """
    num_samples, num_classes = scores.shape
    if num_samples == 0 or len(labels) != num_samples:
        raise UsageError(
            f"{num_samples} rows of scores and {len(labels)} labels; expected equally many, at least one"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UsageError(f"labels run from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}")
    ranks = ranks_of(scores, np.arange(num_classes) == labels[:, None])
    by_class = np.bincount(labels, weights=ranks == 0, minlength=num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    occurs = counts > 0
    return Accuracy(
        acc1=float(np.mean(ranks == 0)),
        acc5=float(np.mean(ranks < 5)) if num_classes >= 5 else None,
        mean_per_class_recall=float(np.mean(by_class[occurs] / counts[occurs])),
        chance=1 / num_classes,
        num_samples=num_samples,
        num_classes=num_classes,
    )


def _unit(rows: Float[np.ndarray, "... E"]) -> Float32[np.ndarray, "... E"]:
    lengths = np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    units: Float32[np.ndarray, "... E"] = (rows / lengths).astype(np.float32)
    return units
