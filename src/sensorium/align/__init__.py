"""Alignment of what people have: series, words to speech, phrases to regions.

The mathematics of time warping is in `sensorium.dtw`. Names are loaded on first use.
"""

import importlib

from sensorium.dtw import __all__ as _dtw_names

_HOME: dict[str, str] = dict.fromkeys(_dtw_names, "dtw") | {
    "align_speech": "align.synthetic_speech",
    "assign": "nn.matching",
    "best_path": "align.viterbi",
    "best_window": "nn.matching",
    "ctc_align": "align.ctc",
    "heat_maps": "nn.matching",
    "iou": "nn.boxes",
    "late_interaction": "nn.matching",
    "sinkhorn": "nn.matching",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorium.align' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"sensorium.{_HOME[name]}"), name)
    globals()[name] = value
    return value
