"""Loss functions of tensors: contrastive, next-token, image, spectral.

>>> import torch
>>> from sensorium.losses import info_nce
>>> rows = torch.nn.functional.normalize(torch.randn(7, 5), dim=1)
>>> info_nce(rows, rows, 14.3).shape
torch.Size([])
"""

from sensorium.losses.contrastive import LOSSES, info_nce, sigmoid
from sensorium.losses.cross_batch import cross_batch_info_nce
from sensorium.losses.generative import IGNORED, next_id_loss
from sensorium.losses.late_interaction import filip

__all__ = ["IGNORED", "LOSSES", "cross_batch_info_nce", "filip", "info_nce", "next_id_loss", "sigmoid"]
