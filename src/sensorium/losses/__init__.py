"""Losses: they see tensors, never models.

>>> import torch
>>> from sensorium.losses import info_nce
>>> rows = torch.nn.functional.normalize(torch.randn(7, 5), dim=1)
>>> info_nce(rows, rows, 14.3).shape
torch.Size([])
"""

from sensorium.losses.contrastive import LOSSES, info_nce, sigmoid
from sensorium.losses.late_interaction import filip

__all__ = ["LOSSES", "filip", "info_nce", "sigmoid"]
