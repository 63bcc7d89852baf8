"""Alignment of any two sequences: time warping, words to sound, phrases to regions.

Names are loaded on first use. Sees arrays and tensors, never models.
"""

import importlib

_HOME: dict[str, str] = {
    "Alignment": "warping",
    "Barycentre": "barycentre",
    "Composer": "scenes",
    "Description": "referring",
    "Itakura": "windows",
    "Layout": "scenes",
    "Match": "occurrences",
    "Neighbours": "pairwise",
    "OnlineAligner": "online",
    "SakoeChiba": "windows",
    "Scene": "scenes",
    "Slanted": "windows",
    "StepPattern": "steps",
    "Thing": "referring",
    "align_speech": "speech",
    "assign": "grounding",
    "best_path": "chain",
    "best_window": "grounding",
    "ctc_align": "ctc",
    "cut_out": "scenes",
    "dtw": "warping",
    "dtw_barycentre": "barycentre",
    "dtw_batch": "pairwise",
    "dtw_matrix": "pairwise",
    "dtw_neighbours": "pairwise",
    "expressions": "referring",
    "heat_maps": "grounding",
    "iou": "boxes",
    "late_interaction": "grounding",
    "rabiner_juang": "steps",
    "sinkhorn": "grounding",
    "soft_dtw": "soft_warping",
    "soft_dtw_barycentre": "barycentre",
    "soft_dtw_divergence": "soft_warping",
    "soft_dtw_from_costs": "soft_warping",
    "subsequence": "occurrences",
    "warm_up": "dtw_warm",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorium.align' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"sensorium.align.{_HOME[name]}"), name)
    globals()[name] = value
    return value
