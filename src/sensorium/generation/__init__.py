"""Writing: a decoder and requests in, ids and text out, many at a time.

`Engine(PlainDecoder(model)).submit(Request(ids))` streams pieces; `.run([...])` returns completions.
Knows ids and scores; no files, no tasks.
"""

from sensorium.generation.decoder import Decoder, Feed, Memory, PlainDecoder
from sensorium.generation.engine import Engine, Stream
from sensorium.generation.fastest import Precision, fastest_decoder
from sensorium.generation.request import Choice, Completion, Guide, Piece, Request, Rule
from sensorium.generation.sampling import GREEDY, Sampling

__all__ = [
    "GREEDY",
    "Choice",
    "Completion",
    "Decoder",
    "Engine",
    "Feed",
    "Guide",
    "Memory",
    "Piece",
    "PlainDecoder",
    "Precision",
    "Request",
    "Rule",
    "Sampling",
    "Stream",
    "fastest_decoder",
]
