"""Alignment of what people have: series, words to speech, phrases to regions.

The mathematics of time warping is in `sensorium.dtw`. Names are loaded on first use.
"""

import importlib

_HOME: dict[str, str] = {
    "Alignment": "dtw",
    "Barycentre": "dtw",
    "Itakura": "dtw",
    "Match": "dtw",
    "Neighbours": "dtw",
    "OnlineAligner": "dtw",
    "SakoeChiba": "dtw",
    "Slanted": "dtw",
    "StepPattern": "dtw",
    "align_speech": "align.synthetic_speech",
    "assign": "nn.matching",
    "best_path": "align.viterbi",
    "best_window": "nn.matching",
    "ctc_align": "align.ctc",
    "dtw": "dtw",
    "dtw_barycentre": "dtw",
    "dtw_batch": "dtw",
    "dtw_matrix": "dtw",
    "dtw_neighbours": "dtw",
    "heat_maps": "nn.matching",
    "iou": "nn.boxes",
    "late_interaction": "nn.matching",
    "rabiner_juang": "dtw",
    "sinkhorn": "nn.matching",
    "soft_dtw": "dtw",
    "soft_dtw_barycentre": "dtw",
    "soft_dtw_divergence": "dtw",
    "soft_dtw_from_costs": "dtw",
    "subsequence": "dtw",
    "warm_up": "dtw",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorium.align' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"sensorium.{_HOME[name]}"), name)
    globals()[name] = value
    return value
