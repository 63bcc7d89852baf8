"""Heads: shapes, scale, what they refuse."""

import pytest
import torch

from sensorium.core.errors import ConfigError, UsageError
from sensorium.models.heads import HEADS

LEARNED = [name for name in HEADS if name != "identity"]


@pytest.mark.parametrize("name", LEARNED)
def test_every_head_maps_widths_and_does_not_care_about_the_scale_of_its_input(name: str) -> None:
    torch.manual_seed(0)
    head = HEADS.build(name, in_dim=11, out_dim=7).eval()
    inputs = torch.randn(5, 11)
    assert head(inputs).shape == (5, 7)
    assert torch.allclose(head(inputs), head(1000 * inputs), atol=1e-3)
    assert torch.allclose(head(inputs)[2:3], head(inputs[2:3]), atol=1e-6)


@pytest.mark.parametrize("name", LEARNED)
def test_every_parameter_of_a_head_is_used(name: str) -> None:
    head = HEADS.build(name, in_dim=11, out_dim=7)
    head(torch.randn(5, 11)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_options_out_of_range_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dropout=1\.0 is not a rate"):
        HEADS.build("linear", in_dim=3, out_dim=2, dropout=1.0)
    with pytest.raises(ConfigError, match="num_blocks=-1"):
        HEADS.build("residual-mlp", in_dim=3, out_dim=2, num_blocks=-1)
    with pytest.raises(UsageError, match="bias"):
        HEADS.build("linear", in_dim=3, out_dim=2, bias=True)


def test_the_identity_head_keeps_the_encoders_space() -> None:
    inputs = torch.randn(3, 11)
    assert torch.equal(HEADS.build("identity", in_dim=11, out_dim=11)(inputs), inputs)
    with pytest.raises(ConfigError, match=r"set model\.dim = 11"):
        HEADS.build("identity", in_dim=11, out_dim=7)


def test_standardised_vectors_point_all_ways_and_a_lone_row_is_like_the_others() -> None:
    torch.manual_seed(0)
    head = HEADS.build("linear", in_dim=11, out_dim=7, standardise=True)
    inputs = 0.1 * torch.randn(23, 11) + torch.arange(11.0)
    out = head(inputs)
    assert torch.allclose(out.mean(dim=0), torch.zeros(7), atol=1e-4)
    assert torch.allclose(out.var(dim=0, unbiased=False), torch.ones(7), atol=0.1)
    for _ in range(299):
        head(inputs)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    alone = head(inputs[:1])
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert torch.allclose(head.eval()(inputs)[:1], alone, atol=1e-5)
    assert torch.allclose(alone, out[:1], atol=0.1)
