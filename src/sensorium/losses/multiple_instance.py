"""Multiple-instance loss of words and image patches: binary cross-entropy of each word with each image.

Input: vectors of the patches of B images and of U distinct words, and which words the captions of each image
contain. Output: a scalar. The logit of a word and an image pools the word's logits over all patches, so a
patch (background, for instance) may match no word. Each word is trained independently, unlike in `filip`,
which compares whole captions and stops training a word once easier words tell the captions apart.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from sensorium.core.errors import UsageError
from sensorium.nn.matching import pooled_logits


def multiple_instance_bce(
    patches: Float[Tensor, "B M E"],
    words: Float[Tensor, "U E"],
    targets: Bool[Tensor, "B U"],
    patches_mask: Bool[Tensor, "B M"],
) -> Float[Tensor, ""]:
    """Sigmoid loss over all pairs of a word and an image.

    With the logit of word u for image i, l_iu = log mean_m exp <patch_im, word_u> (`nn.matching`),

        L = -(1/B) sum_iu log sigmoid(l_iu if targets_iu else -l_iu).

    Initialise so that l << 0 (words are rare). Otherwise background patches can model how frequent each word
    is, and some words are not learned. A word that is in the captions of every image is not localised.

    Args:
        patches: Not normalised; a constant coordinate gives each word a bias of its own.
        words: Not normalised.
        targets: True = a caption of the image contains the word.
        patches_mask: True = real. The (B, U, M) products are in memory at once.

    Raises:
        UsageError: If an image has no real patch.

    Reference:
        Sigmoid over all pairs: SigLIP, arXiv 2303.15343 (there of whole captions). Patches trained by labels
        of whole images: Pinheiro and Collobert, arXiv 1411.6228.
    """
    if not bool(patches_mask.any(dim=1).all()):
        raise UsageError("an image has no real patch; mask padding only")
    patches = patches.masked_fill(~patches_mask[..., None], 0)
    products = torch.einsum("bme,ue->bum", patches, words)
    logits = pooled_logits(products, patches_mask[:, None].float())
    total = functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")
    return total / len(patches)


def unique_words(
    ids: Int64[Tensor, "B N"], mask: Bool[Tensor, "B N"]
) -> tuple[Int64[Tensor, " U"], Bool[Tensor, "B U"]]:
    """Find the distinct words of a batch of texts.

    Args:
        ids: Token ids.
        mask: True = real.

    Returns:
        First position of each distinct id in the flattened texts, in order of the ids, and a (B, U) mask,
        True = the text contains the word.

    Example:
        >>> first, contains = unique_words(torch.tensor([[7, 5, 0], [5, 5, 9]]), torch.ones(2, 3).bool())
        >>> first.tolist(), contains.int().tolist()
        ([2, 1, 0, 5], [[1, 1, 1, 0], [0, 1, 0, 1]])
    """
    positions = mask.flatten().nonzero()[:, 0]
    kinds, inverse = ids.flatten()[positions].unique(return_inverse=True)
    first = torch.full_like(kinds, ids.numel()).scatter_reduce(0, inverse, positions, "amin")
    contains = torch.zeros(len(ids), len(kinds), dtype=torch.bool, device=ids.device)
    contains[positions // ids.shape[1], inverse] = True
    return first, contains
