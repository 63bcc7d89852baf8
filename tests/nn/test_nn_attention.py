"""Attention against its own formula in plain loops, and the laws that masks, groups and caches must keep."""

import math

import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.nn.attention import Attention, KeyValues, attend
from sensorium.nn.position import Rotary

B, H, G, N, S, K = 2, 6, 3, 5, 7, 11


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(queries: torch.Tensor, given: KeyValues, is_causal: bool) -> torch.Tensor:
    """e_ij = q_i . k_j / sqrt(K), a_ij = softmax_j, z_i = sum_j a_ij v_j, one number after another."""
    batch, heads, num_queries, width = queries.shape
    groups, num_keys = given.keys.shape[1:3]
    out = torch.zeros_like(queries)
    for b in range(batch):
        for h in range(heads):
            g = h * groups // heads
            for i in range(num_queries):
                place = int(given.places[b, i]) if given.places is not None else num_keys - num_queries + i
                seen = [
                    j
                    for j in range(num_keys)
                    if (given.mask is None or given.mask[b, j]) and (not is_causal or j <= place)
                ]
                e = [float(queries[b, h, i] @ given.keys[b, g, j]) / math.sqrt(width) for j in seen]
                total = sum(math.exp(value) for value in e)
                for value, j in zip(e, seen, strict=True):
                    out[b, h, i] += math.exp(value) / total * given.values[b, g, j]
    return out


def key_values(mask: torch.Tensor | None = None, places: torch.Tensor | None = None) -> KeyValues:
    return KeyValues(double(B, G, S, K, seed=1), double(B, G, S, K, seed=2), mask, places)


MASK = torch.tensor([[1, 1, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("mask", [None, MASK], ids=["open", "masked"])
def test_equals_the_formula(is_causal: bool, mask: torch.Tensor | None) -> None:
    queries, given = double(B, H, N, K), key_values(mask)
    expected = by_loops(queries, given, is_causal)
    torch.testing.assert_close(attend(queries, given, is_causal=is_causal), expected, rtol=1e-12, atol=1e-12)


def test_square_causal_attention_equals_the_formula() -> None:
    queries, given = double(B, H, S, K), key_values()
    expected = by_loops(queries, given, is_causal=True)
    torch.testing.assert_close(attend(queries, given, is_causal=True), expected, rtol=1e-12, atol=1e-12)


def test_queries_with_places_see_a_cache_up_to_themselves() -> None:
    queries, given = double(B, H, 2, K), key_values(places=torch.tensor([[0, 1], [3, 4]]))
    expected = by_loops(queries, given, is_causal=True)
    torch.testing.assert_close(attend(queries, given, is_causal=True), expected, rtol=1e-12, atol=1e-12)


def test_a_query_without_keys_gets_zeros_and_finite_gradients() -> None:
    queries, given = double(B, H, N, K).requires_grad_(), key_values(MASK)
    given.keys.requires_grad_()
    attended = attend(queries, given)
    assert attended[1].abs().max() == 0
    attended.square().sum().backward()
    assert queries.grad is not None
    assert given.keys.grad is not None
    assert queries.grad.isfinite().all()
    assert given.keys.grad.isfinite().all()


def test_grouped_queries_equal_repeated_keys() -> None:
    queries, given = double(B, H, N, K), key_values()
    repeated = KeyValues(given.keys.repeat_interleave(2, dim=1), given.values.repeat_interleave(2, dim=1))
    torch.testing.assert_close(attend(queries, given), attend(queries, repeated))


def test_scaled_queries_give_the_plain_unscaled_form() -> None:
    queries, given = double(B, G, N, K), key_values()
    plain = torch.einsum("bhik,bhjk->bhij", queries, given.keys).softmax(dim=-1) @ given.values
    torch.testing.assert_close(attend(queries * math.sqrt(K), given), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_near(dtype: torch.dtype) -> None:
    queries, given = double(B, H, N, K), key_values(MASK)
    exact = attend(queries, given)
    rough = attend(queries.to(dtype), KeyValues(given.keys.to(dtype), given.values.to(dtype), MASK))
    assert (rough.double() - exact).norm() < (1e-6 if dtype == torch.float32 else 2e-2) * exact.norm()


def build(**options: object) -> Attention:
    torch.manual_seed(3)
    return Attention(30, 6, num_kv_heads=3, head_dim=10, **options).double()  # type: ignore[arg-type]


def test_causal_tokens_do_not_see_the_future() -> None:
    attention, x = build(is_causal=True, rotary=Rotary(10)), double(B, N, 30)
    changed = x.clone()
    changed[:, 3:] += 1
    first = attention(x, attention.key_values(x))
    second = attention(changed, attention.key_values(changed))
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert (first[:, 3:] - second[:, 3:]).abs().min() > 0


def test_one_token_at_a_time_equals_all_at_once() -> None:
    """A static cache is `KeyValues` of full capacity; the places of the queries hide what is not written."""
    attention, x = build(is_causal=True, rotary=Rotary(10), query_norm=True), double(B, N, 30)
    together = attention(x, attention.key_values(x))
    keys, values = (
        torch.zeros(B, 3, 8, 10, dtype=torch.float64),
        torch.zeros(B, 3, 8, 10, dtype=torch.float64),
    )
    for step in range(N):
        token, place = x[:, step : step + 1], torch.full((B, 1), step)
        new = attention.key_values(token, positions=place)
        keys[:, :, step], values[:, :, step] = new.keys[:, :, 0], new.values[:, :, 0]
        alone = attention(token, KeyValues(keys, values, places=place), place)
        torch.testing.assert_close(alone[:, 0], together[:, step], rtol=1e-12, atol=1e-12)


def test_cross_attention_takes_a_source_of_another_width() -> None:
    attention, x, source = build(source_dim=13), double(B, N, 30), double(B, S, 13, seed=4)
    mask = torch.arange(S) < torch.tensor([[S], [2]])
    spoilt = source.masked_fill(~mask[..., None], 1e4)
    clean = attention(x, attention.key_values(source, mask))
    torch.testing.assert_close(clean, attention(x, attention.key_values(spoilt, mask)))
    assert clean.shape == (B, N, 30)


def test_self_attention_without_positions_does_not_know_order() -> None:
    attention, x = build(), double(B, N, 30)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = x[:, order]
    torch.testing.assert_close(
        attention(shuffled, attention.key_values(shuffled)), attention(x, attention.key_values(x))[:, order]
    )


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_heads=6 does not divide dim=32"):
        Attention(32, 6)
    with pytest.raises(ConfigError, match="num_kv_heads=4 does not divide num_heads=6"):
        Attention(30, 6, num_kv_heads=4)


def test_what_is_read_along_is_seen_near_a_line() -> None:
    """With nothing in queries and keys, the shares are those of the docstring's term alone."""
    torch.manual_seed(5)
    attention = Attention(12, 3, source_dim=7, diagonal_slope=1.7).double()
    with torch.no_grad():
        attention.key.weight.zero_()
        attention.key.bias.zero_()
        attention.nearness.copy_(torch.tensor([0.0, 0.5, -1.0]))
        attention.out.weight.copy_(torch.eye(12))
        attention.out.bias.zero_()
    x, source = torch.randn(2, 5, 12, dtype=torch.float64), torch.randn(2, 9, 7, dtype=torch.float64)
    mask = torch.tensor([[True] * 9, [True] * 4 + [False] * 5])
    given = attention.key_values(source, mask)
    found = attention(x, given)
    here = 1.7 * torch.arange(5)[:, None]
    term = ((torch.arange(9) - here) / (4 + here / 4)) ** 2
    scores = -torch.tensor([1.0, math.e**0.5, math.e**-1], dtype=torch.float64)[:, None, None] * term
    shares = scores[None].masked_fill(~mask[:, None, None], -torch.inf).softmax(dim=-1)
    expected = (shares @ given.values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, expected)
    later = attention(x[:, 3:], given, torch.tensor([[3, 4]]))
    torch.testing.assert_close(later, expected[:, 3:])
