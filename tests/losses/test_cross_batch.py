"""InfoNCE beside rows of earlier steps: equal to `info_nce` without any, and to torch's cross-entropy."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sensorium.losses import cross_batch_info_nce, info_nce


def unit(num: int, seed: int) -> Tensor:
    return normalize(torch.randn(num, 7, generator=torch.Generator().manual_seed(seed)), dim=1)


GROUPS = torch.tensor([3, 1, 3, 0, 2])
KNOWN_GROUPS = torch.tensor([1, 5, 3, 3, 0, 6, 1, 7, 3, 8, 9])


def test_without_known_rows_it_is_info_nce() -> None:
    a, b, scale = (
        unit(5, 0).requires_grad_(),
        unit(5, 1).requires_grad_(),
        torch.tensor(9.0, requires_grad=True),
    )
    nothing = unit(5, 2)[:0]
    ours = cross_batch_info_nce(a, b, scale, GROUPS, nothing, nothing, GROUPS[:0])
    plain = info_nce(a, b, scale, positives=GROUPS)
    torch.testing.assert_close(ours, plain)
    for one, other in zip(*(torch.autograd.grad(loss, [a, b, scale]) for loss in (ours, plain)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_it_is_the_cross_entropy_over_all_candidates(smoothing: float) -> None:
    a, b, known_a, known_b = unit(5, 0), unit(5, 1), unit(11, 2), unit(11, 3)
    ours = cross_batch_info_nce(a, b, 9.0, GROUPS, known_a, known_b, KNOWN_GROUPS, smoothing=smoothing)
    found = (GROUPS[:, None] == torch.cat([GROUPS, KNOWN_GROUPS])).float()
    target = found / found.sum(1, keepdim=True)
    expected = sum(
        cross_entropy(9.0 * anchors @ torch.cat(candidates).T, target, label_smoothing=smoothing)
        for anchors, candidates in ((a, (b, known_b)), (b, (a, known_a)))
    )
    torch.testing.assert_close(ours, expected)


def test_it_runs_in_float32_whatever_comes() -> None:
    a, b, known = unit(5, 0).bfloat16(), unit(5, 1).bfloat16(), unit(11, 2)
    loss = cross_batch_info_nce(a, b, 9.0, GROUPS, known, known, KNOWN_GROUPS)
    torch.testing.assert_close(
        loss, cross_batch_info_nce(a.float(), b.float(), 9.0, GROUPS, known, known, KNOWN_GROUPS)
    )
