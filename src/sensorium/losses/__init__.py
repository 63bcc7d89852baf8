"""Losses: they see tensors, never models.

>>> import torch
>>> from sensorium.losses import info_nce
>>> rows = torch.nn.functional.normalize(torch.randn(7, 5), dim=1)
>>> info_nce(rows, rows, 14.3).shape
torch.Size([])
"""

from sensorium.losses.contrastive import LOSSES, info_nce, sigmoid
from sensorium.losses.generative import IGNORED, next_id_loss
from sensorium.losses.late_interaction import filip
from sensorium.losses.remembered import remembered_info_nce

__all__ = ["IGNORED", "LOSSES", "filip", "info_nce", "next_id_loss", "remembered_info_nce", "sigmoid"]
