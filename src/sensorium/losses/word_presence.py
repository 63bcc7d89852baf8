"""Contrastive loss of words and images: each word learns by itself in which images it is said.

In: vectors of the places of B images and of U distinct words, and which words are said of which image. Out: a
scalar. Where captions are compared as wholes (`late_interaction`), the easiest words tell all of them apart,
and the rest learn nothing; and every place, background too, has to fit some word. Here each word has a
contrast of its own, and a place may fit none. Knows no model.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from sensorium.core.errors import UsageError
from sensorium.nn.matching import pooled_logits


def word_presence(
    places: Float[Tensor, "B M E"],
    words: Float[Tensor, "U E"],
    said: Bool[Tensor, "B U"],
    places_mask: Bool[Tensor, "B M"],
) -> Float[Tensor, ""]:
    """Sigmoid loss over all pairs of a word and an image.

    With the logit that word u is somewhere in image i, l_iu = log mean_m exp <place_im, word_u>,

        L = -(1/B) sum_iu log sigmoid(l_iu if u is said of i, else -l_iu).

    (`align.grounding.pooled_logits`). Words should start rare, l << 0: else background can carry how often
    each is said, and things go unlearned. A word that is said of every image alike points at nothing.

    Args:
        places: Of any length; a constant coordinate lets a word have an offset of its own.
        words: Of any length.
        said: True = the word stands in a caption of the image.
        places_mask: True = real. The (B, U, M) products are held at once.

    Raises:
        UsageError: If an image has no real place.

    Reference:
        A sigmoid over all pairs: SigLIP, arXiv 2303.15343, here of words, not captions. Places learned from
        labels of whole images: Pinheiro and Collobert, arXiv 1411.6228.
    """
    if not bool(places_mask.any(dim=1).all()):
        raise UsageError("an image has no real place; mask padding only")
    places = places.masked_fill(~places_mask[..., None], 0)
    products = torch.einsum("bme,ue->bum", places, words)
    logits = pooled_logits(products, places_mask[:, None].float())
    total = functional.binary_cross_entropy_with_logits(logits, said.to(logits.dtype), reduction="sum")
    return total / len(places)


def distinct_words(
    ids: Int64[Tensor, "B N"], mask: Bool[Tensor, "B N"]
) -> tuple[Int64[Tensor, " U"], Bool[Tensor, "B U"]]:
    """Where each distinct word of some texts is said first, and in which texts it is said.

    Args:
        ids: Of words.
        mask: True = real.

    Returns:
        Positions in the flattened texts, in order of the ids, and True = the word is said in the text.

    Example:
        >>> where, said = distinct_words(torch.tensor([[7, 5, 0], [5, 5, 9]]), torch.ones(2, 3).bool())
        >>> where.tolist(), said.int().tolist()
        ([2, 1, 0, 5], [[1, 1, 1, 0], [0, 1, 0, 1]])
    """
    at = mask.flatten().nonzero()[:, 0]
    kinds, which = ids.flatten()[at].unique(return_inverse=True)
    first = torch.full_like(kinds, ids.numel()).scatter_reduce(0, which, at, "amin")
    said = torch.zeros(len(ids), len(kinds), dtype=torch.bool, device=ids.device)
    said[at // ids.shape[1], which] = True
    return first, said
