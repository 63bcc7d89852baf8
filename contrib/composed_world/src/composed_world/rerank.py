"""Reranks generated images by the likelihood of their text as a caption, log p(text | image).

Input: a model that draws, a model that captions, and a text. Output: the image of several samples with the
highest likelihood. Samples of p(image | text) often show something else, and a captioning model tells them
apart. DALL-E reranks by CLIP in the same way (arXiv:2102.12092, section 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch.nn import functional

from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import PLAIN, Assistant, Generation, WriteConfig
from sensorium.assistants.capabilities import check_capability
from sensorium.assistants.router import AssistantRouter
from sensorium.core.errors import UsageError
from sensorium.losses import IGNORED
from sensorium.media.types import Image
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.processor import batch_of, prepare
from sensorium.models.prompts import instruction
from sensorium.models.sequences import DecoderBatch, TokenSequence, padded


def draw_best(
    artist: Assistant, judge: Assistant, text: str, count: int, config: WriteConfig = PLAIN
) -> Generation:
    """Draw a text several times with consecutive seeds, and keep the best image.

    Args:
        artist: Model that draws.
        judge: Model that captions such images; of a router, the member that answers questions about them.
        text: Description of the image.
        count: Number of samples.
        config: Options of generation, with the first seed.

    Raises:
        UsageError: If one of the models was not trained for its task.
    """
    judge = judge.member("ask") if isinstance(judge, AssistantRouter) else judge
    check_capability(judge.name, judge.capabilities, "caption")
    model = getattr(judge, "model", None)
    if not isinstance(model, MultimodalLM) or "image" not in model.sources:
        raise UsageError(f"{judge.name} reads no images; give a judge that captions such images")
    drawn = []
    for number in range(count):
        sampling = config.sampling.model_copy(update={"seed": config.sampling.seed + number})
        own = config.model_copy(update={"sampling": sampling})
        drawn.append(ask(artist, "draw", text=text, config=own))  # generation starts when the first is read
    pictures = [one.image for one in drawn if one.image is not None]
    return drawn[int(caption_logprobs(model, pictures, text.strip()).argmax())]


@torch.inference_mode()
def caption_logprobs(model: MultimodalLM, pictures: Sequence[Image], text: str) -> Float64[np.ndarray, " n"]:
    """Log-probability of a text as the caption of each image.

    Args:
        model: In evaluation mode, trained to caption images.
        pictures: Images.
        text: The caption.
    """
    writer, asked = model.decoder("text"), instruction("caption")
    own = [prepare(model, {"image": one}) for one in pictures]
    rows = list(range(len(own)))
    media = batch_of(model, rows, own, [asked] * len(own))
    prompt, ids = writer.prompt_ids(asked), writer.answer_ids(text)
    batch = DecoderBatch(media, "text", padded([TokenSequence(prompt, ids, row) for row in rows]))
    written = model(batch.to(model.device))
    logits = writer.model.logits(written.hidden[None])[0].double()
    losses = functional.cross_entropy(logits, written.targets, reduction="none", ignore_index=IGNORED)
    return -losses.view(len(own), -1).sum(1).cpu().numpy()
