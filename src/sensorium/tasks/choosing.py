"""Of several pictures the one that shows a text best, as a model sees it that describes pictures.

In: pictures and the text that they were drawn of. Out: for each the logarithm of the text's probability as
its caption, log p(text | picture). Who draws knows p(picture | text), under which much is likely that shows
something else; who describes was taught to tell such pictures apart. DALL-E chose so by CLIP (Ramesh et al.,
arXiv:2102.12092, section 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch.nn import functional

from sensorium.losses import IGNORED
from sensorium.media.types import Image
from sensorium.models.instructions import instruction
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.reading import batch_of, prepare
from sensorium.models.writing import Lesson, Sequel, padded


@torch.inference_mode()
def told_of(model: MultimodalLM, pictures: Sequence[Image], text: str) -> Float64[np.ndarray, " n"]:
    """Log-probability of a text as the caption of each picture.

    Args:
        model: In evaluation mode; it writes captions of pictures.
        pictures: One or more.
        text: The same for all.
    """
    writer, asked = model.decoder("text"), instruction("caption")
    own = [prepare(model, {"image": one}) for one in pictures]
    rows = list(range(len(own)))
    media = batch_of(model, rows, own, [asked] * len(own))
    prompt, ids = writer.prompt_ids(asked), writer.answer_ids(text)
    lesson = Lesson(media, "text", padded([Sequel(prompt, ids, row) for row in rows])).to(model.device)
    written = model(lesson)
    logits = writer.model.logits(written.hidden).double()
    losses = functional.cross_entropy(logits, written.targets, reduction="none", ignore_index=IGNORED)
    return -losses.view(len(own), -1).sum(1).cpu().numpy()
