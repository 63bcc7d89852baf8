"""Autoregressive generation: requests to ids and text, in batches, streaming, with a key-value cache.

`Engine(fastest_decoder(model, 8, 1024)).submit(Request(ids))` streams pieces; `.run([...])` returns
completions. The package knows ids and logits, not files or tasks.
"""

from sensorium.generation.decoder import Decoder, Feed, GuidedDecoder, Memory, PlainDecoder
from sensorium.generation.engine import Engine, Precision, Stream, fastest_decoder
from sensorium.generation.request import Choice, Completion, Guide, LogitsProcessor, Piece, Request
from sensorium.generation.sampling import GREEDY, Sampling

__all__ = [
    "GREEDY",
    "Choice",
    "Completion",
    "Decoder",
    "Engine",
    "Feed",
    "Guide",
    "GuidedDecoder",
    "LogitsProcessor",
    "Memory",
    "Piece",
    "PlainDecoder",
    "Precision",
    "Request",
    "Sampling",
    "Stream",
    "fastest_decoder",
]
