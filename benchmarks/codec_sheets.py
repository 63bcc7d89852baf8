"""Pictures of what codecs keep: originals above reconstructions, spectrograms above spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from sensorium.media.logmel import log_mel

_COLUMNS, _ZOOM, _GAP = 12, 2, 6
_LOWEST, _HIGHEST = -7.0, 1.0


def picture_sheet(pairs: Sequence[tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Write rows of originals, each with what was painted below it."""
    lines = []
    for start in range(0, len(pairs) - _COLUMNS + 1, _COLUMNS):
        some = pairs[start : start + _COLUMNS]
        lines += [np.concatenate([pair[which] for pair in some], axis=1) for which in (0, 1)]
        lines.append(np.full((_GAP, lines[0].shape[1], 3), 255, np.uint8))
    sheet = Image.fromarray(np.concatenate(lines[:-1]))
    enlarged = sheet.resize((sheet.width * _ZOOM, sheet.height * _ZOOM), Image.Resampling.NEAREST)
    enlarged.quantize(256).save(path, optimize=True)


def sound_sheet(pairs: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Write log-mel pictures of sounds at 16 kHz, each with what was decoded below it."""
    figure = Figure(figsize=(4 * len(pairs), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pairs), squeeze=False)
    for column, (title, *sounds) in enumerate(pairs):
        for row, samples in enumerate(sounds):
            frames = log_mel(samples.astype(np.float32)).T
            length = len(samples) / 16_000
            place = axes[row][column]
            place.imshow(
                frames, aspect="auto", origin="lower", vmin=_LOWEST, vmax=_HIGHEST, extent=(0, length, 0, 80)
            )
            place.set(title=fill(title.rstrip(": "), 30) if row == 0 else "decoded", yticks=[])
    figure.savefig(path, dpi=80)
