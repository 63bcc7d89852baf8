"""FILIP loss: contrastive loss of images and texts by late interaction, computed in tiles.

Input: unit vectors of the patches of B images and of the words of B texts, masks, a logit scale. Output: a
scalar. The B x B similarities are kept in memory. The B x B x N x M products are computed tile by tile and
recomputed in the backward pass (gradient checkpointing).
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
"""Default side of a tile: 32 x 32 pairs of 144 patches and 24 words take 14 MB in float32."""


def filip(
    patches: Float[Tensor, "B M E"],
    words: Float[Tensor, "T N E"],
    patches_mask: Bool[Tensor, "B M"],
    words_mask: Bool[Tensor, "T N"],
    logit_scale: Float[Tensor, ""] | float,
    *,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE, where a similarity is the mean over words (or patches) of the best match.

    With w_ij = mean_n max_m <word_jn, patch_im> and p_ij = mean_m max_n <word_jn, patch_im>,

        L = (1/B) sum_i [-log softmax_j(s p_ij)[i] - log softmax_j(s w_ji)[i]].

    As in `info_nce`, the two directions are summed. Masked patches and words are ignored.

    Args:
        patches: Unit vectors; image i belongs to text i.
        words: Unit vectors; T = B.
        patches_mask: True = real.
        words_mask: True = real.
        logit_scale: Multiplies the similarities (1 / temperature).
        tile: Number of images and of texts whose products are in memory at one time, >= 1.

    Raises:
        UsageError: If there are not as many texts as images, or `tile` is below 1.

    Reference:
        Yao et al., arXiv 2111.07783, section 3.2; without its token dropping and prompt ensembles.
    """
    if len(patches) != len(words) or tile < 1:
        raise UsageError(
            f"{len(patches)} images, {len(words)} texts, tile={tile}; give as many of both, and at least 1"
        )
    by_words, by_patches = similarities(patches, words, patches_mask, words_mask, tile=tile)
    target = torch.arange(len(patches), device=patches.device)
    image_to_text = functional.cross_entropy(logit_scale * by_patches, target)
    text_to_image = functional.cross_entropy((logit_scale * by_words).T, target)
    return image_to_text + text_to_image


def similarities(
    patches: Float[Tensor, "B M E"],
    words: Float[Tensor, "T N E"],
    patches_mask: Bool[Tensor, "B M"],
    words_mask: Bool[Tensor, "T N"],
    *,
    tile: int = TILE,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Similarities of `nn.matching.late_interaction`, tile by tile, recomputed in the backward pass."""
    rows = []
    for top in range(0, len(patches), tile):
        at = slice(top, top + tile)
        columns = [
            checkpoint(
                late_interaction,
                patches[at].float(),
                words[left : left + tile].float(),
                patches_mask[at],
                words_mask[left : left + tile],
                use_reentrant=False,
            )
            for left in range(0, len(words), tile)
        ]
        rows.append([torch.cat(parts, dim=1) for parts in zip(*columns, strict=True)])
    by_words, by_patches = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return by_words, by_patches
