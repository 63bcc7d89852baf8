"""Fusion of modalities: features of any of them in, one vector and one sequence out.

`build(name, dims, out_dim)` makes a `Fusion`; `FUSIONS` holds the names. Its `tokens` and `mask` are a memory
for a decoder, its `pooled` a vector for a classifier or a search.

>>> sorted(FUSIONS)
['bottleneck', 'concat', 'cross_attention', 'gated', 'lowrank', 'mult', 'tensor', 'transformer', 'weighted']
"""

from sensorium.fusion import bottleneck, crossmodal, products, transformer, vectors
from sensorium.fusion.assembly import Fusion, build
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
