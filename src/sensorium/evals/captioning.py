"""Caption metrics: CIDEr-D, BLEU and ROUGE-L, as the COCO caption evaluation defines them.

Input: one caption for each image, and its references. Output: a score for each image, means with intervals.
On equal tokens, values equal those of the COCO code to 1e-9 (tested; Chen et al., arXiv:1504.00325).
sacrebleu and rouge-score differ: COCO's BLEU adds constants to its counts, its ROUGE-L uses beta = 1.2.

Limits: the COCO tokeniser needs Java; `tokenise` is simpler (lower case, runs of letters and digits with
inner apostrophes). Scripts without spaces need another tokeniser. CIDEr takes its IDF from the given
references, so scores on different image sets are not comparable.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.evals.bootstrap import Interval, bootstrap_interval

_MAX_N = 4
_SIGMA = 6.0
"""Standard deviation of the length penalty, in bigrams (Vedantam et al., arXiv:1411.5726, section 5)."""
_BETA = 1.2
"""Weight of recall in ROUGE-L."""
_TINY, _SMALL = 1e-15, 1e-9
"""Constants that BLEU adds to the counts of matched n-grams and of all n-grams."""
_WORD = re.compile(r"\w+(?:['’]\w+)*")

Tokenise = Callable[[str], list[str]]
Gram = tuple[str, ...]


@dataclass(frozen=True)
class Captioning:
    """Result of `evaluate_captions`.

    Attributes:
        cider: CIDEr-D, 0..10, with its 95 % interval over images (with the IDF of all images).
        rouge_l: ROUGE-L, 0..1, with its interval.
        bleu: Corpus BLEU-1 to BLEU-4, 0..1.
        num_images: Number of images.
    """

    cider: Interval
    rouge_l: Interval
    bleu: tuple[float, ...]
    num_images: int


def tokenise(text: str) -> list[str]:
    """Split a caption into words.

    Example:
        >>> tokenise("A frog's two-tone back, on grass.")
        ['a', "frog's", 'two', 'tone', 'back', 'on', 'grass']
    """
    return _WORD.findall(text.lower().replace("’", "'"))


def evaluate_captions(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokeniser: Tokenise = tokenise,
    groups: Int64[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Captioning:
    """Score captions by all metrics.

    Args:
        captions: One for each image.
        references: At least one for each image.
        tokeniser: Splits a caption into words.
        groups: Group of each image; see `bootstrap_interval`.
        seed: Seed of the bootstrap.

    Raises:
        UsageError: If the lengths differ, or an image has no reference.
    """
    return Captioning(
        cider=bootstrap_interval(cider_d(captions, references, tokeniser), groups=groups, seed=seed),
        rouge_l=bootstrap_interval(rouge_l(captions, references, tokeniser), groups=groups, seed=seed),
        bleu=bleu(captions, references, tokeniser),
        num_images=len(captions),
    )


def cider_d(
    captions: Sequence[str], references: Sequence[Sequence[str]], tokeniser: Tokenise = tokenise
) -> Float64[np.ndarray, " n"]:
    r"""CIDEr-D of each caption: clipped cosine of TF-IDF vectors of n-grams, penalised by length, times 10.

    $$\frac{10}{4\,|S|}\sum_{n=1}^{4}\sum_{s \in S} e^{-(l_c-l_s)^2/2\sigma^2}
    \frac{\min(g_n(c), g_n(s)) \cdot g_n(s)}{\lVert g_n(c)\rVert\,\lVert g_n(s)\rVert}$$

    Lengths count bigrams, as in the published code.

    Raises:
        UsageError: If the lengths differ, or an image has no reference.

    Example:
        >>> cider_d(["a red frog", "a key"], [["a red frog"], ["a blue bell"]]).round(3).tolist()
        [7.5, 0.0]
    """
    _check(captions, references)
    grams = [[_grams(tokeniser(one)) for one in several] for several in references]
    frequency = Counter(gram for several in grams for gram in set().union(*several))
    log_images = math.log(len(references))
    scores = []
    for caption, several in zip(captions, grams, strict=True):
        own = _tf_idf(_grams(tokeniser(caption)), frequency, log_images)
        others = [_tf_idf(one, frequency, log_images) for one in several]
        scores.append(10 * float(np.mean([_similarity(own, one) for one in others])))
    return np.array(scores, dtype=np.float64)


def rouge_l(
    captions: Sequence[str], references: Sequence[Sequence[str]], tokeniser: Tokenise = tokenise
) -> Float64[np.ndarray, " n"]:
    """ROUGE-L of each caption: F-measure (beta 1.2) of the longest common subsequence, best over references.

    Example:
        >>> rouge_l(["a red frog"], [["a frog", "the red frog sits"]]).round(3).tolist()
        [0.83]
    """
    _check(captions, references)
    scores = []
    for caption, several in zip(captions, references, strict=True):
        # As in the published code, a text without words is one empty word, which matches an empty reference.
        words, expected = tokeniser(caption) or [""], [tokeniser(one) or [""] for one in several]
        common = [_longest_common_subsequence(words, one) for one in expected]
        precision = max(common) / len(words)
        recall = max(count / len(one) for count, one in zip(common, expected, strict=True))
        below = recall + _BETA**2 * precision
        scores.append((1 + _BETA**2) * precision * recall / below if below else 0.0)
    return np.array(scores, dtype=np.float64)


def bleu(
    captions: Sequence[str], references: Sequence[Sequence[str]], tokeniser: Tokenise = tokenise
) -> tuple[float, ...]:
    """Corpus BLEU-1 to BLEU-4 with the closest reference length, as the COCO evaluation computes it.

    It adds 1e-15 to the counts of matched n-grams and 1e-9 to those of all n-grams to avoid division by 0.
    So captions of fewer than n words, or without a match, score slightly more than 0.

    Example:
        >>> [round(value, 3) for value in bleu(["a red frog here"], [["a red frog there"]])]
        [0.75, 0.707, 0.63, 0.0]
        >>> [round(value, 3) for value in bleu(["a cat"], [["a cat"]])]
        [1.0, 1.0, 0.01, 0.001]
    """
    _check(captions, references)
    length = closest = 0
    right, guessed = np.zeros(_MAX_N), np.zeros(_MAX_N)
    for caption, several in zip(captions, references, strict=True):
        words, expected = tokeniser(caption), [tokeniser(one) for one in several]
        most: Counter[Gram] = Counter()
        for one in expected:
            most |= _grams(one)
        for gram, count in (_grams(words) & most).items():
            right[len(gram) - 1] += count
        guessed += [max(0, len(words) - n) for n in range(_MAX_N)]
        length += len(words)
        closest += min((abs(len(one) - len(words)), len(one)) for one in expected)[1]
    shares = (right + _TINY) / (guessed + _SMALL)
    ratio = (length + _TINY) / (closest + _SMALL)
    brevity = 1.0 if ratio >= 1 else math.exp(1 - 1 / ratio)
    means = np.cumprod(shares) ** (1 / np.arange(1, _MAX_N + 1))
    return tuple(float(brevity * mean) for mean in means)


def nearest_captions(
    queries: Float32[np.ndarray, "q E"], known: Float32[np.ndarray, "m E"], captions: Sequence[str]
) -> list[str]:
    """Caption each image by its nearest neighbour: a baseline without a decoder.

    Args:
        queries: Unit vectors of the images to caption.
        known: Unit vectors of captioned images, or of captions.
        captions: One for each row of `known`.

    Raises:
        UsageError: If there are no captions, or not as many as rows of `known`.
    """
    if len(known) != len(captions) or not captions:
        raise UsageError(f"{len(known)} vectors and {len(captions)} captions; expected equally many")
    return [captions[place] for place in (queries @ known.T).argmax(axis=1)]


@dataclass(frozen=True)
class _Vector:
    """TF-IDF weights by n-gram length, their norms, and the number of bigrams."""

    weights: tuple[Mapping[Gram, float], ...]
    norms: tuple[float, ...]
    length: int


def _tf_idf(grams: Counter[Gram], frequency: Mapping[Gram, int], log_images: float) -> _Vector:
    """TF-IDF of a text; `frequency` counts the images with the n-gram in a reference."""
    by_length: list[dict[Gram, float]] = [{} for _ in range(_MAX_N)]
    for gram, count in grams.items():
        idf = log_images - math.log(max(1, frequency.get(gram, 0)))
        by_length[len(gram) - 1][gram] = count * idf
    norms = tuple(math.sqrt(sum(value**2 for value in one.values())) for one in by_length)
    return _Vector(tuple(by_length), norms, sum(n for gram, n in grams.items() if len(gram) == 2))


def _similarity(one: _Vector, other: _Vector) -> float:
    penalty = math.exp(-((one.length - other.length) ** 2) / (2 * _SIGMA**2))
    total = 0.0
    for n in range(_MAX_N):
        norm = one.norms[n] * other.norms[n]
        theirs = other.weights[n]
        pairs = ((value, theirs.get(gram, 0.0)) for gram, value in one.weights[n].items())
        product = sum(min(value, expected) * expected for value, expected in pairs)
        total += product / norm if norm else product
    return penalty * total / _MAX_N


def _grams(words: Sequence[str]) -> Counter[Gram]:
    """Count the n-grams of 1 to `_MAX_N` words."""
    lengths = range(1, _MAX_N + 1)
    return Counter(tuple(words[i : i + n]) for n in lengths for i in range(len(words) - n + 1))


def _longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        previous = row
        row = [0]
        for place, theirs in enumerate(other):
            row.append(previous[place] + 1 if word == theirs else max(previous[place + 1], row[-1]))
    return row[-1]


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(captions) != len(references) or not captions:
        raise UsageError(
            f"{len(captions)} captions for {len(references)} images; expected one each, at least one"
        )
    if any(len(several) == 0 for several in references):
        raise UsageError("an image has no reference; leave it out, or give one")
