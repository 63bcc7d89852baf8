"""Cached features: what a tower gives, once, whatever happens in between."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_tables import locked_recipe, make_table, picture, samples

from sensorium import media
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.models import feature_cache as features
from sensorium.models.feature_cache import cache_features, encode_items, feature_name
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
from sensorium.models.tower import Tower


@pytest.fixture
def towers() -> dict[str, Tower]:
    config = locked_recipe(Path("t"))["model"]
    del config["towers"]["text"]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = JointEmbedding(JointEmbeddingConfig.model_validate(config))
    return {name: model.tower(name) for name in ("image", "audio")}


def test_views_are_those_of_the_tower_the_plain_one_first(tmp_path: Path, towers) -> None:
    table = make_table(tmp_path / "t.lance", 1)
    cached = cache_features(table, "image", towers["image"], views=3)
    found = table.features(cached.name)
    assert cached.num_rows == len(found) == 8
    assert not cached.failures
    image = media.open(picture("green", "box", 0))
    items = [towers["image"].prepare(image, view) for view in range(3)]
    assert np.allclose(found[3], encode_items(towers["image"], items), atol=1e-5)
    assert not np.allclose(found[3][0], found[3][1], atol=1e-3)


def test_fewer_views_are_the_first_of_more(tmp_path: Path, towers) -> None:
    table = make_table(tmp_path / "t.lance", 1)
    three, two = (
        table.features(cache_features(table, "image", towers["image"], views=n).name) for n in (3, 2)
    )
    assert np.allclose(three.values.reshape(8, 3, -1)[:, :2], two.values.reshape(8, 2, -1), atol=1e-5)


def test_clips_are_chosen_by_language_and_rows_without_any_have_none(tmp_path: Path, towers) -> None:
    table = make_table(tmp_path / "t.lance", 3)
    english = table.features(cache_features(table, "speech", towers["audio"], languages=["en"]).name)
    assert english.counts.tolist() == [1] * 8 + [0] * 8 + [1] * 8
    german = table.features(cache_features(table, "speech", towers["audio"], languages=["de"]).name)
    assert german.counts.sum() == 0


def test_only_what_is_missing_is_computed(tmp_path: Path, towers) -> None:
    table = make_table(tmp_path / "t.lance", 1)
    first = cache_features(table, "image", towers["image"])
    assert cache_features(table, "image", towers["image"]).num_rows == 0
    table.add(samples(2))
    again = cache_features(table, "image", towers["image"])
    assert (again.num_rows, again.name) == (8, first.name)
    assert table.features(first.name).counts.tolist() == [1] * 16


def test_a_stopped_run_goes_on(tmp_path: Path, towers, monkeypatch) -> None:
    monkeypatch.setattr(features, "ITEMS_AT_ONCE", 3)
    monkeypatch.setattr(features, "SECONDS_BETWEEN_WRITES", 0.0)
    table = make_table(tmp_path / "t.lance", 1)

    def stop(done: int, total: int | None, message: str) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_features(table, "image", towers["image"], progress=stop)
    rest = cache_features(table, "image", towers["image"])
    assert rest.num_rows == 2
    whole = make_table(tmp_path / "whole.lance", 1)
    expected = whole.features(cache_features(whole, "image", towers["image"]).name)
    assert np.allclose(table.features(rest.name).values, expected.values, atol=1e-5)


def test_media_that_cannot_be_read_are_named_and_leave_a_gap(tmp_path: Path, towers) -> None:
    table = Table.create(tmp_path / "t.lance")
    broken = picture("red", "disc")[:90]
    table.add(
        [
            Sample("a", image=picture("red", "disc")),
            Sample("b", image=broken),
            Sample("c", image=picture("blue", "box")),
        ]
    )
    cached = cache_features(table, "image", towers["image"], views=2)
    assert [row for row, _ in cached.failures] == [1]
    assert table.features(cached.name).counts.tolist() == [2, 0, 2]


def test_a_name_holds_all_that_decides_a_value(towers) -> None:
    tower = towers["image"]
    names = {
        feature_name("image", tower, views=1, languages=()),
        feature_name("image", tower, views=2, languages=()),
        feature_name("speech", towers["audio"], views=1, languages=["en"]),
        feature_name("speech", towers["audio"], views=1, languages=["de", "en"]),
        feature_name("audio", towers["audio"], views=1, languages=["en"]),
    }
    assert len(names) == 5
    speech = [
        feature_name("speech", towers["audio"], views=1, languages=order)
        for order in (["de", "en"], ["en", "de"])
    ]
    assert speech[0] == speech[1]
    with torch.no_grad():
        next(tower.encoder.parameters()).add_(1)
    assert feature_name("image", tower, views=1, languages=()) not in names


def test_a_slow_encoder_goes_through_a_probe_and_gives_the_same(tmp_path: Path, towers, monkeypatch) -> None:
    table, twin = make_table(tmp_path / "t.lance", 1), make_table(tmp_path / "u.lance", 1)
    plain = table.features(cache_features(table, "image", towers["image"]).name)
    monkeypatch.setattr(features, "WORTH_A_PROBE_S", 0.0)
    monkeypatch.setattr("sensorium.encoders.backend.BACKENDS", {"eager": features_backend("eager")})
    said: list[str] = []
    probed = cache_features(
        twin, "image", towers["image"], progress=lambda done, total, message: said.append(message)
    )
    assert probed.report is not None
    assert probed.report.chosen == "eager"
    assert "through eager (" in said[-1]
    assert np.allclose(plain.values, twin.features(probed.name).values, atol=1e-5)


def features_backend(name: str):
    from sensorium.encoders.backend import BACKENDS

    return BACKENDS[name]
