"""A `Captioner` for video summaries that asks an assistant to caption each image."""

from __future__ import annotations

from collections.abc import Sequence

from sensorium import media
from sensorium.assistants.ask import ask
from sensorium.assistants.assistant import Assistant, write_config
from sensorium.assistants.capabilities import check_capability
from sensorium.video.captions import Captioner

_CAPTION_CONFIG = write_config(48, 0.0)
"""A caption is one sentence."""


class AssistantCaptioner:
    """Captions images one by one and leaves out repeated captions.

    Args:
        assistant: A model that was trained to caption.
        fallback: Asked where the assistant returns an empty text.

    Raises:
        UsageError: If the model was not trained to caption.
    """

    def __init__(self, assistant: Assistant, fallback: Captioner | None = None) -> None:
        check_capability(assistant.name, assistant.capabilities, "caption")
        self._assistant, self._fallback = assistant, fallback

    def caption(self, pictures: Sequence[media.Image]) -> str:
        """Caption images; see `Captioner.caption`."""
        texts = [ask(self._assistant, "caption", [one], config=_CAPTION_CONFIG).text for one in pictures]
        lines = dict.fromkeys(" ".join(one.split()).rstrip(".") for one in texts)
        text = "; ".join(filter(None, lines))
        return text if text or self._fallback is None else self._fallback.caption(pictures)
