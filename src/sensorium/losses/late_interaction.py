"""Contrastive loss of images and texts by late interaction, in tiles.

In: unit vectors of the places of B images and of the words of their B texts, masks, a logit scale. Out: a
scalar. The B x B similarities are kept; the B x B x N x M products they are maxima of never are: each tile of
them is made, reduced, and made once more in the backward pass. Knows no model.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sensorium.core.errors import UsageError
from sensorium.nn.matching import late_interaction

TILE = 32
"""Default side of a tile: 32 x 32 pairs of 144 places and 24 words are 14 MB in float32."""


def filip(
    places: Float[Tensor, "B M E"],
    words: Float[Tensor, "T N E"],
    places_mask: Bool[Tensor, "B M"],
    words_mask: Bool[Tensor, "T N"],
    logit_scale: Float[Tensor, ""] | float,
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """FILIP's loss: InfoNCE where a text's similarity is the mean of its words' best places, and vice versa.

    With w_ij = mean_n max_m <word_jn, place_im> and p_ij = mean_m max_n <word_jn, place_im>,

        L = (1/B) sum_i [-log softmax_j(s p_ij)[i] - log softmax_j(s w_ji)[i]]:

    an image seeks its text by its places, a text its image by its words. As in `info_nce`, the directions
    are added. Masked places and words are never a maximum and count in no mean.

    Args:
        places: Unit vectors; image i belongs to text i.
        words: Unit vectors of as many texts.
        places_mask: True = real.
        words_mask: True = real.
        logit_scale: Multiplies the similarities (1 / temperature).
        tile: Images and texts whose products are alive at one time, >= 1.

    Raises:
        UsageError: If there are not as many texts as images, or `tile` is below 1.

    Reference:
        Yao et al., arXiv 2111.07783, section 3.2; without its token dropping and prompt ensembles.
    """
    if len(places) != len(words) or tile < 1:
        raise UsageError(
            f"{len(places)} images, {len(words)} texts, tile={tile}; give as many of both, and at least 1"
        )
    by_words, by_places = similarities(places, words, places_mask, words_mask, tile=tile)
    target = torch.arange(len(places), device=places.device)
    image_to_text = functional.cross_entropy(logit_scale * by_places, target)
    text_to_image = functional.cross_entropy((logit_scale * by_words).T, target)
    return image_to_text + text_to_image


def similarities(
    places: Float[Tensor, "B M E"],
    words: Float[Tensor, "T N E"],
    places_mask: Bool[Tensor, "B M"],
    words_mask: Bool[Tensor, "T N"],
    *,
    tile: int = TILE,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """What `align.grounding.late_interaction` gives, tile by tile, and once more in the backward pass."""
    rows = []
    for top in range(0, len(places), tile):
        at = slice(top, top + tile)
        columns = [
            checkpoint(
                late_interaction,
                places[at].float(),
                words[left : left + tile].float(),
                places_mask[at],
                words_mask[left : left + tile],
                use_reentrant=False,
            )
            for left in range(0, len(words), tile)
        ]
        rows.append([torch.cat(parts, dim=1) for parts in zip(*columns, strict=True)])
    by_words, by_places = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return by_words, by_places
