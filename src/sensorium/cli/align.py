"""`sensorium align`: two recordings or videos, words to speech, phrases to regions of an image."""

from __future__ import annotations

import typer

from sensorium.cli.align_series import series
from sensorium.cli.align_speech import speech
from sensorium.cli.phrases import phrases

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.command()(phrases)
app.command()(series)
app.command()(speech)


@app.callback()
def align() -> None:
    """Align two recordings or videos, words to speech, phrases to regions of an image."""
