"""Alignment of any two sequences: time warping, words to sound, phrases to regions.

Names are loaded on first use. Sees arrays and tensors, never models.
"""

import importlib

_HOME: dict[str, str] = {
    "Alignment": "warping",
    "Barycentre": "barycentre",
    "Itakura": "windows",
    "Match": "subsequence",
    "OnlineAligner": "online",
    "Neighbours": "pairwise",
    "SakoeChiba": "windows",
    "Slanted": "windows",
    "StepPattern": "steps",
    "align_speech": "speech",
    "best_path": "chain",
    "ctc_align": "ctc",
    "dtw": "warping",
    "dtw_barycentre": "barycentre",
    "dtw_batch": "pairwise",
    "dtw_matrix": "pairwise",
    "dtw_neighbours": "pairwise",
    "rabiner_juang": "steps",
    "soft_dtw": "soft_warping",
    "soft_dtw_barycentre": "barycentre",
    "soft_dtw_divergence": "soft_warping",
    "soft_dtw_from_costs": "soft_warping",
    "subsequence": "subsequence",
    "warm_up": "dtw_warm",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorium.align' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"sensorium.align.{_HOME[name]}"), name)
    globals()[name] = value
    return value
