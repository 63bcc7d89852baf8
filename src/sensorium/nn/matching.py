"""Matching of phrases to image regions: late interaction, heat maps, log-probabilities, boxes, assignment.

Input: vectors of image patches and of words, with masks (True = real). Output: image-text
similarity by late interaction, phrase heat maps, log-probabilities of patches and regions, boxes, and a
one-to-one assignment of phrases to boxes. Masked words and patches are ignored, even if NaN. All functions
are pure functions of tensors without parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from sensorium.core.errors import UsageError
from sensorium.core.runtime import require


def late_interaction(
    patches: Float[Tensor, "B M D"],
    words: Float[Tensor, "T N D"],
    patches_mask: Bool[Tensor, "B M"],
    words_mask: Bool[Tensor, "T N"],
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Late-interaction similarity of each image with each text, in both directions.

    By words: s_bt = mean over words n of max over patches m of <patch_bm, word_tn>; by patches: the reverse.

    Args:
        patches: Unit vectors of the patches of B images.
        words: Unit vectors of the words of T texts.
        patches_mask: True = real.
        words_mask: True = real.

    Returns:
        Similarity by words and by patches. All (B, T, M, N) products are in memory at once; for large batches
        use `losses.late_interaction`.

    Reference:
        Yao et al. (FILIP), arXiv 2111.07783, eq. 4-6; padding is masked.
    """
    products = torch.einsum("bmd,tnd->btmn", patches, words)
    least = torch.finfo(products.dtype).min
    real_patches, real_words = patches_mask[:, None, :, None], words_mask[None, :, None, :]
    best_patch = products.masked_fill(~real_patches, least).amax(dim=2)
    best_word = products.masked_fill(~real_words, least).amax(dim=3)
    return _mean(best_patch, words_mask[None]), _mean(best_word, patches_mask[:, None])


def heat_maps(
    patches: Float[Tensor, "P M D"], words: Float[Tensor, "P N D"], span: Bool[Tensor, "P N"]
) -> Float[Tensor, "P M"]:
    """Heat map of each phrase over its image: h_m = mean_n <patch_m, word_n>; `span` marks its words n."""
    return torch.einsum("pmd,pd->pm", patches, phrase_vectors(words, span))


def patch_log_probs(
    patches: Float[Tensor, "P M D"], words: Float[Tensor, "P N D"], span: Bool[Tensor, "P N"]
) -> Float[Tensor, "P M"]:
    """Log-probability that each patch shows what a phrase names: h_m = mean_n log sigmoid <patch_m, word_n>.

    Each word is scored independently, as in training (`losses.multiple_instance`). The mean makes phrases of
    different length comparable.

    Args:
        patches: Patches of each phrase's image.
        words: Words of each phrase's text.
        span: True = the word belongs to the phrase.
    """
    chances = functional.logsigmoid(torch.einsum("pmd,pnd->pnm", patches, words).float())
    return _mean(chances.transpose(1, 2), span[:, None])


def region_log_probs(
    patches: Float[Tensor, "M D"], words: Float[Tensor, "N D"], parts: Float[Tensor, "K M"]
) -> Float[Tensor, " K"]:
    """Log-probability that each region of an image shows what a phrase names: s_k = mean_n log sigmoid l_kn.

    l_kn pools the logits of word n over region k (`pooled_logits`), weighted by `parts`, the overlap of each
    patch with each region. Thus a red crab beside a green frog does not match "the red frog".
    """
    logits = pooled_logits(words @ patches.T, parts[:, None])
    return functional.logsigmoid(logits).mean(dim=1)


def pooled_logits(logits: Float[Tensor, "... M"], weights: Float[Tensor, "... M"]) -> Float[Tensor, "*k"]:
    """Weighted log-mean-exp of patch logits: log sum_m w_m exp s_m - log sum_m w_m.

    It is a soft maximum with a gradient for every patch, independent of the resolution of the grid. Weights
    are >= 0 and not all 0.

    Reference:
        Pinheiro and Collobert, arXiv 1411.6228, section 3.2, there with a temperature.
    """
    pooled: Tensor = (logits.float() + weights.log()).logsumexp(dim=-1) - weights.sum(dim=-1).log()
    return pooled


def phrase_vectors(words: Float[Tensor, "P N D"], span: Bool[Tensor, "P N"]) -> Float[Tensor, "P D"]:
    """Mean of each phrase's word vectors; raises `UsageError` if a phrase has no word."""
    if not bool(span.any(dim=1).all()):
        raise UsageError("a phrase covers no token of its text; give spans of at least one word")
    return _mean(words.transpose(1, 2), span[:, None])


@dataclass(frozen=True)
class Window:
    """Rectangle of a grid (ends exclusive) and its score."""

    top: int
    left: int
    bottom: int
    right: int
    score: float


def best_window(heat: Float[Tensor, "H W"], *, power: float = 0.5) -> Window:
    """Find the rectangle with the greatest sum / area^power, by an integral image over all rectangles.

    Args:
        heat: Heat map; subtract the mean or a fraction of the peak first, so that background is negative.
        power: 0 includes every positive cell, 1 only the peak.

    Reference:
        ALBEF, arXiv 2107.07651, ranks proposals by sum / area^power. Here all rectangles are compared: 6,084
        on a 12 x 12 grid.
    """
    height, width = heat.shape
    integral = torch.zeros(height + 1, width + 1, dtype=torch.float64)
    integral[1:, 1:] = heat.double().cumsum(0).cumsum(1).cpu()
    tops, bottoms = torch.combinations(torch.arange(height + 1)).T
    lefts, rights = torch.combinations(torch.arange(width + 1)).T
    corners = [integral[rows][:, columns] for rows in (bottoms, tops) for columns in (rights, lefts)]
    sums = corners[0] - corners[1] - corners[2] + corners[3]
    areas = (bottoms - tops)[:, None] * (rights - lefts)[None]
    scores = sums / areas.double() ** power
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    rows, columns = (int(tops[row]), int(bottoms[row])), (int(lefts[column]), int(rights[column]))
    return Window(rows[0], columns[0], rows[1], columns[1], float(scores[row, column]))


def sinkhorn(
    scores: Float[Tensor, "P K"], absent: Float[Tensor, " P"], *, temperature: float = 0.1, steps: int = 50
) -> Float[Tensor, "P K+1"]:
    """Soft one-to-one assignment of phrases to boxes by Sinkhorn iterations; the last column is "not there".

    Rows sum to 1. Columns of boxes sum to at most 1; a slack row takes the rest. The "not there" column is
    unbounded. Rows and columns are normalised in turn, in log space.

    Args:
        scores: Score of phrase p for box k; higher is better.
        absent: Score of "not there" for phrase p, on the same scale.
        temperature: > 0; towards 0 the result approaches a hard assignment.
        steps: Number of iterations.

    Returns:
        Probabilities; the assignment of phrase p is the maximum of its row.

    Reference:
        Cuturi, arXiv 1306.0895; the slack row and column as in SuperGlue, arXiv 1911.11763, section 3.2.
    """
    if temperature <= 0:
        raise UsageError(f"temperature={temperature}; give a number above 0, such as 0.1")
    num_phrases, num_boxes = scores.shape
    nobody = scores.new_zeros(1, num_boxes + 1)
    table = torch.cat([torch.cat([scores, absent[:, None]], dim=1) / temperature, nobody])
    log_rows = torch.cat(
        [scores.new_zeros(num_phrases), scores.new_tensor([float(num_boxes + num_phrases)]).log()]
    )
    log_columns = torch.cat(
        [scores.new_zeros(num_boxes), scores.new_tensor([2.0 * num_phrases]).clamp(min=1e-6).log()]
    )
    u, v = torch.zeros_like(log_rows), torch.zeros_like(log_columns)
    for _ in range(steps):
        v = log_columns - (table + u[:, None]).logsumexp(dim=0)
        u = log_rows - (table + v[None]).logsumexp(dim=1)
    return (table + u[:, None] + v[None]).exp()[:num_phrases]


def assign(scores: Float[Tensor, "P K"], absent: Float[Tensor, " P"]) -> Int64[Tensor, " P"]:
    """One-to-one assignment with the greatest total score (Hungarian algorithm).

    Any number of phrases may be absent.

    Args:
        scores: Score of phrase p for box k.
        absent: Score of phrase p for being absent.

    Returns:
        Box index of each phrase, or -1 if it is absent.

    Raises:
        MissingExtraError: If SciPy is not installed; `sinkhorn` does not need it.
    """
    optimise = require("scipy.optimize", "align")
    num_phrases, num_boxes = scores.shape
    own_slot = torch.full((num_phrases, num_phrases), -torch.inf, dtype=scores.dtype)
    own_slot.fill_diagonal_(0)
    slots = torch.where(own_slot == 0, absent.cpu()[:, None], own_slot)
    table = torch.cat([scores.cpu(), slots], dim=1)
    cost = -table.double().nan_to_num(neginf=-1e12).numpy()
    _, columns = optimise.linear_sum_assignment(cost)
    chosen = torch.from_numpy(columns).long()
    return torch.where(chosen < num_boxes, chosen, -torch.ones_like(chosen))


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Masked mean over the last axis; masked values may be NaN."""
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)
