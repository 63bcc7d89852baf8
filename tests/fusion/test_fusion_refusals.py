"""What a fusion cannot do is said in one line that names the way on."""

import re

import pytest
import torch

from sensorium.core.errors import ConfigError, NotFoundError, SensoriumError, UsageError
from sensorium.core.types import Tokens
from sensorium.fusion import build

DIMS = {"image": 7, "text": 5}


def tokens(*shape: int) -> Tokens:
    return Tokens(torch.zeros(shape), torch.ones(shape[:2], dtype=torch.bool))


def test_unknown_name_is_given_its_nearest() -> None:
    with pytest.raises(NotFoundError, match="unknown fusion 'tensr'; did you mean 'tensor'"):
        build("tensr", DIMS, 3)


def test_tensor_beyond_the_cap_names_what_fits() -> None:
    five = dict.fromkeys("abcde", 300)
    wanted = (
        "16^5 = 1,048,576 products, more than max_products=65,536; take factor_dim <= 8, or fusion 'lowrank'"
    )
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        build("tensor", five, 3)
    assert build("tensor", five, 3, factor_dim=8).num_parameters > 9**5
    with pytest.raises(ConfigError, match="factor_dim <= 8"):
        build("tensor", five, 3, factor_dim=9)
    with pytest.raises(ConfigError, match="take fusion 'lowrank'"):
        build("tensor", dict.fromkeys("abcdefghijklmnopq", 3), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 1}, "width=1"),
        ({"modality_dropout": 1.0}, "modality_dropout=1.0"),
        ({"depth": 0}, "depth=0; expected at least 1"),
        ({"num_heads": 7}, "num_heads=7 does not divide dim=32"),
        ({"num_heads": 0}, "num_heads=0; expected at least 1"),
        ({"mlp_dim": 0}, "mlp_dim=0; expected at least 1"),
        ({"dropout": 2.0}, "dropout: input should be less than 1"),
    ],
)
def test_numbers_out_of_range_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build("transformer", DIMS, 3, **options)


@pytest.mark.parametrize(
    ("name", "option"), [("lowrank", "rank"), ("concat", "hidden_dim"), ("bottleneck", "num_bottlenecks")]
)
def test_own_numbers_are_checked(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}=0; expected at least 1"):
        build(name, DIMS, 3, **{option: 0})


def test_one_layer_of_bottlenecks_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth=1; expected at least 2"):
        build("bottleneck", DIMS, 3, depth=1)


def test_option_of_another_fusion_is_refused() -> None:
    with pytest.raises(UsageError, match=r"fusion 'concat'.*'rank'"):
        build("concat", DIMS, 3, rank=4)


@pytest.mark.parametrize("name", ["", "a.b", "values", "keys", "train"])
def test_names_that_parameters_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a modality"):
        build("concat", {name: 3}, 3)


@pytest.mark.parametrize(("dims", "out_dim"), [({}, 3), ({"image": 0}, 3), ({"image": 3}, 0)])
def test_nothing_to_fuse_is_refused(dims: dict[str, int], out_dim: int) -> None:
    with pytest.raises(ConfigError, match="at least"):
        build("concat", dims, out_dim)


@pytest.mark.parametrize(
    ("features", "present", "message"),
    [
        ({}, None, "no features; give at least one of image, text"),
        ({"video": tokens(2, 3, 7)}, None, "features of 'video', but the fusion has image, text"),
        ({"image": tokens(2, 3, 5)}, None, "features of 'image' are (2, 3, 5); expected (2, N, 7)"),
        (
            {"image": tokens(2, 3, 7), "text": tokens(3, 3, 5)},
            None,
            "features of 'text' are (3, 3, 5); expected (2, N, 5)",
        ),
        ({"image": tokens(2, 3, 7)}, torch.ones(2, 3) > 0, "expected torch.bool (2, 2), columns image, text"),
        ({"image": tokens(2, 3, 7)}, torch.ones(3, 2) > 0, "present is torch.bool (3, 2)"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    features: dict[str, Tokens], present: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        build("concat", DIMS, 3)(features, present)


def test_cost_of_an_unknown_modality_is_refused() -> None:
    with pytest.raises(UsageError, match="length of 'video'"):
        build("concat", DIMS, 3).flops({"video": 3})


def test_messages_are_one_line() -> None:
    for options in ({"rank": 4}, {"width": 0}, {"hidden_dim": -1}):
        with pytest.raises(SensoriumError) as caught:
            build("concat", DIMS, 3, **options)
        assert "\n" not in str(caught.value)


def test_places_are_a_square() -> None:
    with pytest.raises(ConfigError, match="places=5; expected a square number"):
        build("transformer", DIMS, 3, places=5)
    with pytest.raises(ConfigError, match="after=1 without places"):
        build("transformer", DIMS, 3, after=1)
