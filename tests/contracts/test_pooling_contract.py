"""Every entry of the pooling registry: masked places count for nothing, no tokens give zeros."""

import pytest
import torch
from torch import nn

from sensorium.core.types import Tokens
from sensorium.nn.pooling import POOLINGS

DIM = 11


@pytest.fixture(params=list(POOLINGS))
def pooling(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(1)
    module = POOLINGS.build(request.param, dim=DIM)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.double()


def sample() -> Tokens:
    mask = torch.arange(7) < torch.tensor([[7], [3], [1]])
    return Tokens(torch.randn(3, 7, DIM, dtype=torch.float64), mask)


def test_masked_places_count_for_nothing(pooling: nn.Module) -> None:
    tokens = sample()
    spoilt = Tokens(tokens.values.masked_fill(~tokens.mask[..., None], 1e4), tokens.mask)
    torch.testing.assert_close(pooling(tokens), pooling(spoilt))


def test_batch_equals_singles(pooling: nn.Module) -> None:
    tokens = sample()
    pooled = pooling(tokens)
    for row, (values, mask) in enumerate(zip(tokens.values, tokens.mask, strict=True)):
        alone = Tokens(values[mask][None], torch.ones(1, int(mask.sum()), dtype=torch.bool))
        torch.testing.assert_close(pooled[row], pooling(alone)[0])


def test_no_tokens_give_zeros(pooling: nn.Module) -> None:
    nothing = Tokens(torch.randn(2, 5, DIM, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.bool))
    torch.testing.assert_close(pooling(nothing), torch.zeros(2, DIM, dtype=torch.float64))


def test_gradients_are_finite_and_reach_every_parameter(pooling: nn.Module) -> None:
    tokens = sample()
    tokens.values.requires_grad_()
    pooled = pooling(tokens)
    (pooled * torch.randn_like(pooled)).sum().backward()
    assert tokens.values.grad is not None
    assert tokens.values.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in pooling.parameters())
