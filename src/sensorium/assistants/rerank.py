"""Best of N: draws several pictures of one text and keeps the best, as a plug-in ranks them.

Rerankers register as `sensorium.reranker`: a function of who draws, who judges, the text, how many and the
configuration; it returns the picture to keep.
"""

from __future__ import annotations

from sensorium.assistants.assistant import PLAIN, Assistant, Generation, WriteConfig
from sensorium.core.errors import UsageError
from sensorium.core.registry import Registry

RERANKERS: Registry[Generation] = Registry("reranker")


def can_rerank() -> bool:
    """Whether an installed package ranks pictures."""
    return bool(list(RERANKERS))


def best_of(
    artist: Assistant, judge: Assistant, text: str, count: int, config: WriteConfig = PLAIN
) -> Generation:
    """Draw a text several times and keep the picture that the first reranker finds best.

    Args:
        artist: Who draws.
        judge: Who looks at the pictures.
        text: What they are to show.
        count: How many.
        config: How they are drawn; with the first seed.

    Raises:
        UsageError: If no installed package ranks pictures, or one of the two was not taught its part.
    """
    if not can_rerank():
        raise UsageError(
            "no installed package ranks images; give --best-of 1, or run: pip install contrib/composed_world"
        )
    return RERANKERS.get(next(iter(RERANKERS)))(artist, judge, text, count, config)
