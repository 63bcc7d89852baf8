"""Dynamic time warping (DTW) of two sequences: exact, soft, windowed, batched, online, and barycentres.

Public names are imported on first use. The package works on arrays and tensors and imports only
`sensorium.core`.
"""

import importlib

_HOME: dict[str, str] = {
    "Alignment": "warping",
    "Barycentre": "barycentre",
    "Itakura": "windows",
    "Match": "subsequence_search",
    "Neighbours": "pairwise",
    "OnlineAligner": "online",
    "SakoeChiba": "windows",
    "Slanted": "windows",
    "StepPattern": "steps",
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
    "subsequence": "subsequence_search",
    "warm_up": "pairwise",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorium.dtw' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"sensorium.dtw.{_HOME[name]}"), name)
    globals()[name] = value
    return value
