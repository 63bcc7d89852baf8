"""Plots timed words over the loudness of their recording as a PNG.

The colour of a word is its confidence, from orange (0) to blue (1). At most `MOST_ROWS` rows of 10 s are
drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sensorium.align.mfcc import FRAMES_A_SECOND, AudioFeatures, audio_features
from sensorium.core.errors import UsageError
from sensorium.core.files import replace_atomic
from sensorium.media.audio_blocks import audio_blocks
from sensorium.media.timed_text import TimedWord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 12
_ROW_S = 10.0
_QUIETEST_DB = -60.0
_INK, _SOUND = "#1e2430", "#aab1bf"
_SURE, _UNSURE = (38, 92, 168), (255, 122, 69)
_WIDTH_A_CHARACTER_S = 0.075


def draw_words(audio: Path, words: Sequence[TimedWord], path: Path) -> None:
    """Plot words over the loudness of their recording; the file is complete or absent.

    Raises:
        UsageError: If `path` does not end in .png.
        MediaError: If `audio` does not decode.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path.name}: expected a name that ends in .png")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    features = audio_features(audio_blocks(audio))
    num_rows = min(MOST_ROWS, max(1, int(np.ceil(len(features) / FRAMES_A_SECOND / _ROW_S))))
    figure = Figure(figsize=(11, 0.55 + 1.05 * num_rows), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    rows = figure.subplots(num_rows, 1, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.02,
        right=0.98,
        top=1 - 0.5 / figure.get_figheight(),
        bottom=0.22 / figure.get_figheight(),
        hspace=0.3,
    )
    sure = float(np.mean([word.confidence for word in words])) if words else 0.0
    title = f"{audio.name} · {len(words)} words · mean confidence {sure:.2f}"
    figure.text(0.02, 1 - 0.28 / figure.get_figheight(), title, fontsize=12, color=_INK, weight="bold")
    for number, axes in enumerate(rows):
        _draw_row(axes, features, words, number * _ROW_S)
    replace_atomic(path, lambda temporary: figure.savefig(temporary, format="png"))


def _draw_row(axes: Axes, features: AudioFeatures, words: Sequence[TimedWord], begin_s: float) -> None:
    level = features.level_db[int(begin_s * FRAMES_A_SECOND) :][: int(_ROW_S * FRAMES_A_SECOND)]
    height = np.clip(1 - level / _QUIETEST_DB, 0, 1)
    times_s = begin_s + np.arange(len(level)) / FRAMES_A_SECOND
    axes.fill_between(times_s, -height, height, color=_SOUND, linewidth=0)
    for word in words:
        if begin_s <= word.end_s and word.start_s < begin_s + _ROW_S and word.end_s > word.start_s:
            _draw_word(axes, word, begin_s)
    axes.set_xlim(begin_s, begin_s + _ROW_S)
    axes.set_ylim(-1.05, 1.75)
    axes.set_yticks([])
    axes.set_xticks(np.arange(begin_s, begin_s + _ROW_S + 1, 1))
    axes.tick_params(colors="#8a8f99", labelsize=7, length=2, pad=1)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_word(axes: Axes, word: TimedWord, begin_s: float) -> None:
    share = min(1.0, max(0.0, word.confidence))
    red, green, blue = (low + (high - low) * share for low, high in zip(_UNSURE, _SURE, strict=True))
    colour = (red / 255, green / 255, blue / 255)
    axes.fill_between([word.start_s, word.end_s], -1, 1, color=colour, alpha=0.3, linewidth=0)
    axes.plot([word.start_s, word.start_s], [-1, 1], color=colour, linewidth=1)
    axes.plot([word.end_s, word.end_s], [-1, 1], color=colour, linewidth=0.5)
    room = (word.end_s - word.start_s) / max(1, len(word.word)) / _WIDTH_A_CHARACTER_S
    size = float(np.clip(9 * room, 5.5, 9))
    if word.start_s >= begin_s:
        axes.text(word.start_s, 1.15, word.word, fontsize=size, color=_INK)
