"""Fusion of modalities: features of any subset in, one vector and one sequence out.

`build(name, dims, out_dim)` builds a `Fusion`; `FUSIONS` holds the names. `tokens` and `mask` of its output
are the memory of a decoder's cross-attention; `pooled` is a vector for a classifier or for search.

>>> sorted(FUSIONS)
['bottleneck', 'concat', 'cross_attention', 'gated', 'lowrank', 'mult', 'tensor', 'transformer', 'weighted']
"""

from sensorium.fusion import bottleneck, crossmodal, products, transformer, vectors
from sensorium.fusion.fusion import Fusion, build
from sensorium.fusion.registry import FUSIONS, FusionOutput

__all__ = [
    "FUSIONS",
    "Fusion",
    "FusionOutput",
    "bottleneck",
    "build",
    "crossmodal",
    "products",
    "transformer",
    "vectors",
]
