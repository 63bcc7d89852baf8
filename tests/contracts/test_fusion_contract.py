"""Every entry of the fusion registry keeps the fusion contract; a new entry is tested by its name."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sensorium.core.types import Tokens
from sensorium.fusion import FUSIONS, Fusion, FusionOutput, build

DIMS = {"text": 7, "image": 11, "audio": 1}  # not in the order of the alphabet, one a single number
LENGTHS = {"text": 5, "image": 4, "audio": 13}
PLACED = "transformer over places"
OPTIONS = {PLACED: {"places": 4, "after": 1, "normed": False}}
OUT_DIM = 17
# Rows: all · without audio · only audio · nothing · all. Columns as DIMS.
PRESENT = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
Features = dict[str, Tokens]


@pytest.fixture(
    params=[*((name, count) for name in FUSIONS for count in (3, 2, 1)), (PLACED, 3), (PLACED, 2)],
    ids="{0[0]}-{0[1]}".format,
)
def fusion(request: pytest.FixtureRequest) -> Fusion:
    name, count = request.param
    return make(name, count)


def make(name: str, count: int = 3, seed: int = 1) -> Fusion:
    """Build in float64, every parameter shaken, so that nothing is equal only because it starts at zero."""
    torch.manual_seed(seed)
    dims = dict(list(DIMS.items())[:count])
    fusion = build_named(name, dims, 0.3).double().eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return fusion


def build_named(name: str, dims: dict[str, int], modality_dropout: float) -> Fusion:
    fusion = build(name.split()[0], dims, OUT_DIM, modality_dropout=modality_dropout, **OPTIONS.get(name, {}))
    fusion.name = name
    return fusion


def features(fusion: Fusion) -> Features:
    """Five rows of unequal lengths; holes in the last, which has no image token at all."""
    draws = torch.Generator().manual_seed(3)
    given = {}
    for name in fusion.modalities:
        num = LENGTHS[name]
        lengths = torch.tensor([num, 1, num - 1, 2, num])
        mask = torch.arange(num) < lengths[:, None]
        mask[4, ::2] = False
        if name == "image" and len(fusion.modalities) > 1:
            mask[4] = False
        values = torch.randn(5, num, fusion.dims[name], generator=draws, dtype=torch.float64)
        given[name] = Tokens(values, mask)
    return given


def present(fusion: Fusion) -> Tensor:
    return PRESENT[:, : len(fusion.modalities)]


def fuse(fusion: Fusion) -> FusionOutput:
    return fusion(features(fusion), present(fusion))


def real(out: FusionOutput) -> list[Tensor]:
    return [values[mask] for values, mask in zip(out.tokens, out.mask, strict=True)]


def assert_same_bits(ours: FusionOutput, theirs: FusionOutput) -> None:
    assert torch.equal(ours.pooled, theirs.pooled)
    assert torch.equal(ours.mask, theirs.mask)
    assert all(torch.equal(one, other) for one, other in zip(real(ours), real(theirs), strict=True))
    assert (ours.weights is None) == (theirs.weights is None)
    assert ours.weights is None or torch.equal(ours.weights, theirs.weights)


def assert_near(ours: FusionOutput, theirs: FusionOutput, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(ours.pooled, theirs.pooled, rtol=tolerance, atol=tolerance)
    for one, other in zip(real(ours), real(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    if ours.weights is not None and theirs.weights is not None:
        torch.testing.assert_close(ours.weights, theirs.weights, rtol=tolerance, atol=tolerance)


def score(out: FusionOutput) -> Tensor:
    """A number that depends on every coordinate of the vector."""
    draws = torch.Generator().manual_seed(5)
    return (out.pooled * torch.randn(out.pooled.shape, generator=draws, dtype=out.pooled.dtype)).sum()


def test_shapes_are_those_declared(fusion: Fusion) -> None:
    out = fuse(fusion)
    assert out.pooled.shape == (5, OUT_DIM)
    assert out.tokens.shape == (*out.mask.shape, OUT_DIM)
    assert out.mask.dtype == torch.bool
    assert out.pooled.isfinite().all()
    assert all(one.isfinite().all() for one in real(out))


def test_every_row_has_a_token_to_attend_to(fusion: Fusion) -> None:
    assert fuse(fusion).mask.any(dim=1).all()


def test_weights_are_shares(fusion: Fusion) -> None:
    weights = fuse(fusion).weights
    if weights is None:
        pytest.skip("weighs no modality as a whole")
    assert weights.shape == (5, len(fusion.modalities))
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5, dtype=torch.float64))


def test_every_parameter_gets_a_gradient_from_the_vector_alone(fusion: Fusion) -> None:
    score(fuse(fusion)).backward()
    without = [
        key for key, value in fusion.named_parameters() if value.requires_grad and not _has_gradient(value)
    ]
    assert without == []


def test_every_parameter_that_matters_is_saved(fusion: Fusion) -> None:
    other = make(fusion.name, len(fusion.modalities), seed=2)
    assert not torch.equal(fuse(other).pooled, fuse(fusion).pooled)
    other.load_state_dict(copy.deepcopy(fusion.state_dict()))
    assert_same_bits(fuse(other), fuse(fusion))


def test_content_of_absent_modalities_and_masked_tokens_changes_no_bit(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    for garbage in (1e30, float("nan"), float("inf")):
        spoilt = {
            name: Tokens(one.values.masked_fill(~_seen(one, here[:, column]), garbage), one.mask)
            for column, (name, one) in enumerate(given.items())
        }
        assert_same_bits(fusion(given, here), fusion(spoilt, here))


def test_garbage_in_hidden_places_spoils_no_gradient(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    for column, one in enumerate(given.values()):
        one.values[~_seen(one, here[:, column]).expand_as(one.values)] = float("nan")
        one.values.requires_grad_()
    score(fusion(given, here)).backward()
    for column, one in enumerate(given.values()):
        seen = _seen(one, here[:, column])[..., 0]
        assert one.values.grad is not None
        assert one.values.grad[~seen].abs().max() == 0
        assert one.values.grad[seen].abs().max() > 0
    assert all(value.grad.isfinite().all() for value in fusion.parameters() if value.grad is not None)


def test_modality_that_is_left_out_is_one_that_no_row_has(fusion: Fusion) -> None:
    if len(fusion.modalities) == 1:
        pytest.skip("needs another modality that stays")
    left_out = fusion.modalities[-1]
    given, here = features(fusion), present(fusion)
    fewer = {name: one for name, one in given.items() if name != left_out}
    empty = Tokens(given[left_out].values[:, :0], given[left_out].mask[:, :0])
    denied = here.clone()
    denied[:, -1] = False
    assert_near(fusion(fewer, here), fusion(given, denied))
    assert_near(fusion({**fewer, left_out: empty}, here), fusion(given, denied))


def test_modality_without_real_tokens_is_absent(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    hidden = {
        name: Tokens(one.values, one.mask & here[:, column, None])
        for column, (name, one) in enumerate(given.items())
    }
    assert_same_bits(fusion(given, here), fusion(hidden))


def test_rows_with_nothing_give_one_learned_vector(fusion: Fusion) -> None:
    given = features(fusion)
    out = fusion(given, torch.zeros_like(present(fusion)))
    assert_near(replace(out, pooled=out.pooled[:1].expand(5, -1)), out)
    torch.testing.assert_close(fuse(fusion).pooled[3], out.pooled[0], rtol=1e-9, atol=1e-9)


def test_every_modality_present_makes_a_difference(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    whole = fusion(given, here).pooled
    for column in range(here.shape[1]):
        without = here.clone()
        without[0, column] = False
        changed = fusion(given, without).pooled
        assert (changed[0] - whole[0]).norm() > 1e-4 * whole[0].norm()
        torch.testing.assert_close(changed[1:], whole[1:], rtol=1e-9, atol=1e-9)


def test_order_of_the_modalities_changes_no_bit(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    backward = dict(reversed(given.items()))
    assert_same_bits(fusion(given, here), fusion(backward, here))
    torch.manual_seed(1)
    dims = dict(reversed(fusion.dims.items()))
    other = build_named(fusion.name, dims, 0.1).double().eval()
    other.load_state_dict(fusion.state_dict())
    ours, theirs = fusion(given, here), other(backward, here.flip(1))
    weights = None if theirs.weights is None else theirs.weights.flip(1)
    assert_same_bits(ours, replace(theirs, weights=weights))


def test_batch_of_n_equals_n_singles(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    together = fusion(given, here)
    for row in range(5):
        single = {
            name: Tokens(one.values[row][one.mask[row]][None], one.mask[row][one.mask[row]][None])
            for name, one in given.items()
        }
        alone = fusion(single, here[row : row + 1])
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(real(alone)[0], real(together)[row], rtol=1e-9, atol=1e-9)


def test_padding_changes_nothing(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    longer = {name: _padded(one) for name, one in given.items()}
    assert_near(fusion(given, here), fusion(longer, here))
    fusion.float()
    single, longer = _float(given), _float(longer)
    assert_near(fusion(single, here), fusion(longer, here), tolerance=1e-6)


def test_modalities_are_dropped_in_training_alone(fusion: Fusion) -> None:
    assert_same_bits(fuse(fusion), fuse(fusion))
    fusion.train()
    torch.manual_seed(7)
    drawn = [fusion(features(fusion), present(fusion)).pooled for _ in range(20)]
    expected = fuse(fusion.eval()).pooled
    kept = torch.stack([torch.isclose(one, expected).all(dim=1) for one in drawn]).double().mean(dim=0)
    assert 0.1 < kept[0] < 0.95
    assert kept[3] == 1  # nothing left to drop


def test_flops_are_those_that_are_counted(fusion: Fusion) -> None:
    given = {
        name: Tokens(one.values[:1], torch.ones_like(one.mask[:1])) for name, one in features(fusion).items()
    }
    lengths = {name: LENGTHS[name] for name in given}
    assert counted(fusion, given) == fusion.flops(lengths)
    if len(given) > 1:
        del given["text"], lengths["text"]
        assert counted(fusion, given) == fusion.flops(lengths)


def test_parameters_are_those_that_are_declared(fusion: Fusion) -> None:
    assert fusion.num_parameters == sum(value.numel() for value in fusion.state_dict().values())


def test_runs_in_bfloat16(fusion: Fusion) -> None:
    given, here = features(fusion), present(fusion)
    expected = fusion(given, here).pooled
    fusion.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = fusion(_float(given), here).pooled
    assert (pooled - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("name", list(FUSIONS))
def test_learns_to_tell_rows_apart(name: str) -> None:
    torch.manual_seed(0)
    fusion = build(name, DIMS, OUT_DIM, modality_dropout=0.0)
    given, here = _float(features(fusion)), PRESENT
    targets = torch.arange(5)
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=1e-2)
    for _ in range(30):
        loss = nn.functional.cross_entropy(fusion(given, here).pooled, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (fusion.eval()(given, here).pooled.argmax(dim=1) == targets).all()


def counted(fusion: Fusion, given: Features) -> int:
    """What torch counts; the fused attention of the CPU is not among the kernels that it knows."""
    fusion.requires_grad_(False)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        fusion(given)
    return int(counter.get_total_flops())


def _seen(one: Tokens, here: Tensor) -> Tensor:
    return (one.mask & here[:, None])[..., None]


def _padded(one: Tokens) -> Tokens:
    return Tokens(nn.functional.pad(one.values, (0, 0, 0, 4), value=9.0), nn.functional.pad(one.mask, (0, 4)))


def _float(given: Features) -> Features:
    return {name: Tokens(one.values.float(), one.mask) for name, one in given.items()}


def _has_gradient(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
