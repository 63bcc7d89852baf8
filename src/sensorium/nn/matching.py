"""Phrases and places: token-wise similarity, heat maps, chances, boxes, one-to-one assignment.

In: vectors of places (cells of a grid over an image) and of words, with masks, True = real. Out: similarity
of image and text by late interaction (each word asks for its best place), heat maps of phrases, how likely a
phrase names a place or a part of the image, boxes, and which phrase gets which box where no two may have the
same. Masked words and places count for nothing, whatever they hold. Pure functions of tensors; they train
nothing and know no model.
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
    places: Float[Tensor, "B M D"],
    words: Float[Tensor, "T N D"],
    places_mask: Bool[Tensor, "B M"],
    words_mask: Bool[Tensor, "T N"],
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Similarity of each image with each text, as each side sees it.

    By words: s_bt = mean over words n of max over places m of <place_bm, word_tn>; by places the other way.

    Args:
        places: Unit vectors of the places of B images.
        words: Unit vectors of the words of T texts.
        places_mask: True = real.
        words_mask: True = real.

    Returns:
        Similarity by words and by places. The (B, T, M, N) products are held at once: see
        `losses.late_interaction` for many.

    Reference:
        Yao et al. (FILIP), arXiv 2111.07783, eq. 4-6; padding is masked, which some versions forget.
    """
    products = torch.einsum("bmd,tnd->btmn", places, words)
    least = torch.finfo(products.dtype).min
    real_places, real_words = places_mask[:, None, :, None], words_mask[None, :, None, :]
    best_place = products.masked_fill(~real_places, least).amax(dim=2)
    best_word = products.masked_fill(~real_words, least).amax(dim=3)
    return _mean(best_place, words_mask[None]), _mean(best_word, places_mask[:, None])


def heat_maps(
    places: Float[Tensor, "P M D"], words: Float[Tensor, "P N D"], span: Bool[Tensor, "P N"]
) -> Float[Tensor, "P M"]:
    """How well each place fits a phrase: the mean of its words' similarities, h_m = mean_n <place_m, word_n>.

    Args:
        places: Of each phrase's image.
        words: Of each phrase's text.
        span: True = the word is of the phrase.
    """
    return torch.einsum("pmd,pd->pm", places, phrase_vectors(words, span))


def place_log_probs(
    places: Float[Tensor, "P M D"], words: Float[Tensor, "P N D"], span: Bool[Tensor, "P N"]
) -> Float[Tensor, "P M"]:
    """How likely each place is what a phrase names, as the log of a chance.

    h_m = mean_n log sigmoid <place_m, word_n>: each word speaks for itself, as it was learned
    (`losses.word_presence`), and the mean makes phrases of any length comparable.

    Args:
        places: Of each phrase's image.
        words: Of each phrase's text.
        span: True = the word is of the phrase.
    """
    chances = functional.logsigmoid(torch.einsum("pmd,pnd->pnm", places, words).float())
    return _mean(chances.transpose(1, 2), span[:, None])


def region_log_probs(
    places: Float[Tensor, "M D"], words: Float[Tensor, "N D"], parts: Float[Tensor, "K M"]
) -> Float[Tensor, " K"]:
    """How likely each part of an image is what a phrase names, as the log of a chance.

    Each part is taken for an image of its own: s_k = mean_n log sigmoid l_kn, where l_kn pools the logits of
    word n over the part as training does over images (`pooled_logits`). So a red crab and a green frog are
    not "the red frog".

    Args:
        places: Of the image.
        words: Of the phrase alone.
        parts: How much of each place lies in the part, >= 0, in any unit.
    """
    logits = pooled_logits(words @ places.T, parts[:, None])
    return functional.logsigmoid(logits).mean(dim=1)


def pooled_logits(logits: Float[Tensor, "... M"], weights: Float[Tensor, "... M"]) -> Float[Tensor, "*k"]:
    """Logit of a word in an image from its logits at the places: log sum_m w_m exp s_m - log sum_m w_m.

    A soft maximum that lets all places of a thing learn, and that is the same on a finer grid.

    Args:
        logits: Of a word at each place.
        weights: Of each place, >= 0 and not all 0.

    Reference:
        Pinheiro and Collobert, arXiv 1411.6228, section 3.2, there with a temperature.
    """
    pooled: Tensor = (logits.float() + weights.log()).logsumexp(dim=-1) - weights.sum(dim=-1).log()
    return pooled


def phrase_vectors(words: Float[Tensor, "P N D"], span: Bool[Tensor, "P N"]) -> Float[Tensor, "P D"]:
    """Mean of each phrase's word vectors.

    Raises:
        UsageError: If a phrase has no word.
    """
    if not bool(span.any(dim=1).all()):
        raise UsageError("a phrase covers no token of its text; give spans of at least one word")
    return _mean(words.transpose(1, 2), span[:, None])


@dataclass(frozen=True)
class Window:
    """Rows and columns of a grid, ends exclusive, and the sum that made it the best."""

    top: int
    left: int
    bottom: int
    right: int
    score: float


def best_window(heat: Float[Tensor, "H W"], *, power: float = 0.5, least: int = 1) -> Window:
    """The sub-window with the greatest sum / area^power, by an integral image over all windows.

    Args:
        heat: Negative where a place is better left out; take off the mean, or a share of the peak, before.
        power: 0 takes in all that is positive, 1 only the peak.
        least: Fewest rows and columns.

    Raises:
        UsageError: If the map is smaller than `least`.

    Reference:
        Ranking by sum / area^power: ALBEF, arXiv 2107.07651, for proposals; here over every window of the
        grid, of which H = W = 12 has 6,084.
    """
    height, width = heat.shape
    if least < 1 or least > min(height, width):
        raise UsageError(
            f"least={least} does not fit a map of {height} x {width}; give 1 to {min(height, width)}"
        )
    integral = torch.zeros(height + 1, width + 1, dtype=torch.float64)
    integral[1:, 1:] = heat.double().cumsum(0).cumsum(1).cpu()
    tops, bottoms = _ends(height, least)
    lefts, rights = _ends(width, least)
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
    """Share phrases out over boxes so that no box gets more than one phrase; the last column is "not there".

    Rows sum to 1; columns of boxes to at most 1, the rest going to a phrase of nobody; "not there" takes any
    number. Rows and columns are scaled in turn, in logarithms.

    Args:
        scores: How well phrase p fits box k; higher is better.
        absent: How well "not there" fits phrase p, on the same scale.
        temperature: > 0; towards 0 the shares become an assignment.
        steps: Rounds of scaling.

    Returns:
        Shares; the assignment of phrase p is the greatest of its row.

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
    """The one-to-one assignment with the greatest sum (Hungarian algorithm), "not there" being open to all.

    Args:
        scores: How well phrase p fits box k.
        absent: How well "not there" fits phrase p.

    Returns:
        For each phrase its box, or -1 for "not there".

    Raises:
        MissingExtraError: If SciPy is not installed; `sinkhorn` needs none.
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
    """Mean over the last axis of what is real; what is masked may hold anything, even NaN."""
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def _ends(length: int, least: int) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]:
    """First and past-the-last place of every stretch of at least `least`."""
    first = torch.arange(length)
    pairs = torch.cartesian_prod(first, first + 1)
    pairs = pairs[pairs[:, 1] - pairs[:, 0] >= least]
    return pairs[:, 0], pairs[:, 1]
