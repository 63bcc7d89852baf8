"""How commands open a model that answers, and how they show what it writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast, get_args

from sensorium.cli.output import TerminalProgress, emit_json, note, write_stream
from sensorium.core.errors import UsageError

if TYPE_CHECKING:
    from sensorium.generation import Precision
    from sensorium.tasks.assistant import Assistant, Generation, Output


def read_precision(name: str) -> Precision:
    """The precision that an option names.

    Raises:
        UsageError: If there is no such.
    """
    from sensorium.generation import Precision

    known = get_args(Precision)
    if name not in known:
        raise UsageError(f"--precision {name}: expected one of {', '.join(known)}")
    return cast("Precision", name)


def prepare(assistant: Assistant, to: Output = "text") -> None:
    """Build what writes; the first time on a machine this takes some seconds, which is shown."""
    with TerminalProgress() as progress:
        assistant.prepare(to, progress)


def show(answer: Generation, start: float, *, is_json: bool) -> None:
    """Print an answer: as it is written, or as {"text", "tokens", "seconds"} when it is.

    Args:
        answer: Not iterated over yet.
        start: Of the clock `time.perf_counter`, when it was asked for.
        is_json: Whether as JSON.
    """
    if is_json:
        emit_json(as_json(answer.wait(), start))
        return
    write_stream(answer)
    if answer.reason == "length":
        note(f"(cut after {len(answer.ids)} tokens; --max-tokens allows more)")


def as_json(answer: Generation, start: float) -> dict[str, object]:
    """What is said of a finished answer."""
    seconds = round(time.perf_counter() - start, 3)
    return {"text": answer.text, "tokens": len(answer.ids), "seconds": seconds}
