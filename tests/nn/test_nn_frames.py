"""Frame convolutions and the inverse short-time transform, by value and by what depends on what."""

import pytest
import torch

from sensorium.core.errors import UsageError
from sensorium.nn.convnext import ConvNeXt1d, ConvNeXtBlock
from sensorium.nn.istft import InverseStft


def test_a_block_adds_its_formula_to_its_input() -> None:
    block, x = ConvNeXtBlock(5, 7, 3, 0.25).double(), torch.randn(2, 11, 5, dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1))
    near = torch.stack([(padded[:, t : t + 3] * block.near.weight[:, 0].T).sum(dim=1) for t in range(11)], 1)
    inner = torch.nn.functional.gelu(block.up(block.norm(near + block.near.bias)))
    torch.testing.assert_close(block(x), x + 0.25 * block.down(inner))


@pytest.mark.parametrize(("depth", "kernel"), [(0, 3), (2, 5), (3, 1)])
def test_a_frame_depends_on_those_within_reach_and_no_others(depth: int, kernel: int) -> None:
    stack = ConvNeXt1d(3, 5, depth, kernel, 2).double()
    x = torch.randn(1, 41, 3, dtype=torch.float64, requires_grad=True)
    stack(x)[0, 20, 0].backward()
    assert x.grad is not None
    felt = x.grad[0].abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert felt == list(range(20 - stack.reach, 20 + stack.reach + 1))


@pytest.mark.parametrize(("window", "hop"), [(20, 5), (28, 7), (22, 11)])
def test_it_inverts_the_transform(window: int, hop: int) -> None:
    samples = torch.randn(3, 13 * hop, dtype=torch.float64)
    inverse = InverseStft(window, hop).double()
    spectra = torch.stft(samples, window, hop, window=inverse.window, return_complex=True)
    found = inverse(spectra.transpose(1, 2)[:, :13])
    torch.testing.assert_close(found[:, : 12 * hop], samples[:, : 12 * hop])
    assert found.shape == samples.shape


def test_it_is_that_of_torch_for_spectra_of_no_signal() -> None:
    inverse = InverseStft(20, 5).double()
    spectra = torch.randn(2, 17, 11, dtype=torch.complex128)
    spectra[..., 0] = spectra[..., 0].real + 0j
    spectra[..., -1] = spectra[..., -1].real + 0j
    expected = torch.istft(spectra.transpose(1, 2), 20, 5, window=inverse.window)
    torch.testing.assert_close(inverse(spectra)[:, : expected.shape[1]], expected)


def test_a_window_that_is_not_made_of_hops_is_refused() -> None:
    for window, hop in ((20, 7), (5, 5), (15, 5)):
        with pytest.raises(UsageError, match=f"window of {window} samples, hop {hop}"):
            InverseStft(window, hop)
