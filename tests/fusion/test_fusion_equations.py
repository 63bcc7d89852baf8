"""Each fusion computes the equation that its docstring gives."""

import pytest
import torch
from torch import Tensor

from sensorium.core.types import Tokens
from sensorium.fusion import FUSIONS, build
from sensorium.fusion.crossmodal import CrossAttention
from sensorium.fusion.products import LowRank, TensorProduct
from sensorium.fusion.transformer import JointTransformer, grid_coordinates
from sensorium.fusion.vectors import Concat, Gated, Weighted

NAMES, WIDTH, OUT_DIM = ("a", "b", "c"), 5, 7


@pytest.fixture(autouse=True)
def draws() -> None:
    torch.manual_seed(3)


def vectors() -> list[Tensor]:
    return [torch.randn(3, WIDTH, dtype=torch.float64) for _ in NAMES]


def tokens(found: list[Tensor]) -> dict[str, Tokens]:
    """Sequences whose mean over real tokens is the vector."""
    mask = torch.tensor([True, True, False]).expand(3, 3)
    return {
        name: Tokens(torch.stack([x - 1, x + 1, 9 * x], dim=1), mask)
        for name, x in zip(NAMES, found, strict=True)
    }


def test_tensor_is_the_outer_product() -> None:
    fusion, given = TensorProduct(NAMES, WIDTH, OUT_DIM, factor_dim=2).double(), vectors()
    ones = torch.ones(3, 1, dtype=torch.float64)
    a, b, c = (torch.cat([fusion.factors[name](x), ones], 1) for name, x in zip(NAMES, given, strict=True))
    product = torch.einsum("bi,bj,bk->bijk", a, b, c)
    assert product.shape == (3, 3, 3, 3)
    assert torch.allclose(fusion(tokens(given)).pooled, fusion.out(product.flatten(1)))


def test_low_rank_is_a_tensor_fusion_whose_weights_are_a_sum_of_outer_products() -> None:
    fusion, given = LowRank(NAMES, WIDTH, OUT_DIM, rank=2).double(), vectors()
    with torch.no_grad():
        fusion.weights.copy_(torch.tensor([0.3, -1.7]))
        fusion.bias.normal_()
    parts = []
    for name in NAMES:
        layer = fusion.factors[name]
        parts.append(torch.cat([layer.weight, layer.bias[:, None]], dim=1).view(2, OUT_DIM, WIDTH + 1))
    weight = torch.einsum("r,rei,rej,rek->eijk", fusion.weights, *parts)
    ones = torch.ones(3, 1, dtype=torch.float64)
    extended = [torch.cat([x, ones], dim=1) for x in given]
    expected = torch.einsum("eijk,bi,bj,bk->be", weight, *extended) + fusion.bias
    assert torch.allclose(fusion(tokens(given)).pooled, expected)


def test_weighted_is_an_average_of_single_modalities() -> None:
    fusion, given = Weighted(NAMES, WIDTH, OUT_DIM, hidden_dim=11).double(), vectors()
    with torch.no_grad():
        fusion.scores.copy_(torch.tensor([0.0, 1.0, 2.0]))
    out = fusion(tokens(given))
    shares = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).exp()
    shares = shares / shares.sum()
    said = [fusion.layers[name](x) for name, x in zip(NAMES, given, strict=True)]
    assert torch.allclose(out.pooled, sum(share * one for share, one in zip(shares, said, strict=True)))
    assert out.weights is not None
    assert torch.allclose(out.weights, shares.expand(3, -1))


def test_gates_open_and_shut() -> None:
    fusion, given = Gated(NAMES, WIDTH, OUT_DIM).double(), vectors()
    with torch.no_grad():
        for name, bias in zip(NAMES, (40.0, -40.0, -40.0), strict=True):
            fusion.gates[name].weight.zero_()
            fusion.gates[name].bias.fill_(bias)
    out = fusion(tokens(given))
    assert torch.allclose(out.pooled, fusion.says["a"](given[0]).tanh())
    assert out.weights is not None
    assert torch.allclose(out.weights, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(3, -1))


def test_concat_reads_all_vectors_at_once() -> None:
    fusion, given = Concat(NAMES, WIDTH, OUT_DIM, hidden_dim=11).double(), vectors()
    assert torch.allclose(fusion(tokens(given)).pooled, fusion.layers(torch.cat(given, dim=1)))


def test_every_pair_of_modalities_has_its_own_attention() -> None:
    fusion = CrossAttention(NAMES, 8, OUT_DIM).double()
    pairs = [(source, target) for target, sources in fusion.pairs.items() for source in sources]
    assert len(set(pairs)) == 6
    given = {name: Tokens(torch.randn(2, 3, 8, dtype=torch.float64), torch.ones(2, 3) > 0) for name in NAMES}
    before = fusion(given).tokens
    with torch.no_grad():
        for parameter in fusion.pairs["a"]["c"].parameters():
            parameter.add_(0.5)
    changed = (fusion(given).tokens - before).abs().amax(dim=(0, 2)) > 1e-9
    assert changed.tolist() == [True] * 3 + [False] * 6  # the tokens of `a`, and no others


@pytest.mark.parametrize("name", ["cross_attention", "mult", "bottleneck", "transformer"])
def test_tokens_of_each_modality_hear_of_every_other(name: str) -> None:
    mixer = FUSIONS.build(name, modalities=NAMES, width=8, out_dim=OUT_DIM).double()
    lengths = {"a": 2, "b": 3, "c": 5}
    given = {
        one: Tokens(
            torch.randn(1, num, 8, dtype=torch.float64, requires_grad=True),
            torch.ones(1, num, dtype=torch.bool),
        )
        for one, num in lengths.items()
    }
    of_each = mixer(given).tokens[:, :10].split(list(lengths.values()), dim=1)
    for part in of_each:
        heard = torch.autograd.grad(
            (part * torch.randn_like(part)).sum(), [one.values for one in given.values()], retain_graph=True
        )
        assert all(gradient.abs().max() > 1e-6 for gradient in heard)


def test_words_that_know_their_place_meet_again_after_the_look() -> None:
    names, options = ("image", "text"), {"depth": 1, "places": 4}
    mixer = JointTransformer(names, 8, OUT_DIM, after=2, **options).double()
    plain = JointTransformer(names, 8, OUT_DIM, **options).double()
    plain.load_state_dict({k: v for k, v in mixer.state_dict().items() if not k.startswith("after.")})
    for one in (mixer, plain):
        one.leave = torch.nn.Identity()
    given = {
        name: Tokens(torch.randn(1, num, 8, dtype=torch.float64), torch.ones(1, num, dtype=torch.bool))
        for name, num in (("image", 4), ("text", 3))
    }
    assert mixer.after is not None
    before, positions = plain(given).tokens, grid_coordinates(given, 4)
    assert torch.allclose(mixer(given).tokens, mixer.after.norm(before))  # they start by changing nothing
    for parameter in mixer.after.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    after = mixer.after(before, torch.ones(1, 7, dtype=torch.bool), positions=positions)
    assert torch.allclose(mixer(given).tokens, after)
    assert not torch.allclose(after, mixer.after.norm(before), atol=0.1)
    costs = [
        build("transformer", {"image": 8, "text": 8}, 8, places=4, after=num).flops({"image": 4, "text": 3})
        for num in (0, 1)
    ]
    assert costs[0] < costs[1]


def test_flops_are_two_for_each_multiply_add() -> None:
    fusion = build("concat", {"image": 7, "text": 5}, 3, width=11, hidden_dim=13)
    layers = 2 * (22 * 13 + 13 * 3)
    assert fusion.flops({"image": 4, "text": 2}) == 2 * 11 * (4 * 7 + 2 * 5) + layers
    assert fusion.flops({"text": 2}) == 2 * 11 * 2 * 5 + layers
    assert fusion.flops({}) == layers
    assert fusion.training


def test_width_within_follows_the_width_that_is_asked_for() -> None:
    assert build("transformer", {"a": 3}, out_dim=65).intake.width == 96
    assert build("transformer", {"a": 3}, out_dim=5).intake.width == 32
    assert build("transformer", {"a": 3}, out_dim=5, width=64).intake.width == 64
