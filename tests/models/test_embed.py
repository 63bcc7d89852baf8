from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.data.table.sample import Sample
from sensorium.data.table.table import Table
from sensorium.models import embed
from sensorium.models.embed import embed_rows, embed_table, fields_of
from sensorium.models.feature_cache import cache_features
from sensorium.models.joint_embedding import JointEmbedding


def test_every_field_gets_its_vectors_and_they_equal_those_of_single_items(
    tiny_table: Table, tiny_model: JointEmbedding
) -> None:
    report = embed_table(tiny_table, tiny_model, languages=["en"])
    assert report.rows == {"image": 8, "text": 8, "audio": 4, "speech": 3}
    rows, vectors = tiny_table.vectors("image", tiny_model.fingerprint)
    assert rows.tolist() == list(range(8))
    for row in (0, 5):
        alone = tiny_model.embed([tiny_table.rows([row])[0].image]).vectors[0]
        np.testing.assert_allclose(vectors[row], alone, atol=1e-5)


def test_each_caption_of_a_row_is_a_vector(tiny_table: Table, tiny_model: JointEmbedding) -> None:
    embed_table(tiny_table, tiny_model, fields=["text"])
    rows, vectors = tiny_table.vectors("text", tiny_model.fingerprint)
    assert rows.tolist() == sorted([*range(8), *range(8)])
    texts = [caption.text for caption in tiny_table.rows([2])[0].texts]
    np.testing.assert_allclose(vectors[4:6], tiny_model.embed(texts).vectors, atol=1e-5)


def test_a_second_run_embeds_only_what_is_new(tiny_table: Table, tiny_model: JointEmbedding) -> None:
    embed_table(tiny_table, tiny_model, fields=["image"])
    before = tiny_table.vectors("image", tiny_model.fingerprint)[1]
    image = tiny_table.rows([3])[0].image
    tiny_table.add([Sample("again.png", image=image)])
    report = embed_table(tiny_table, tiny_model, fields=["image"])
    assert report.rows == {"image": 1}
    rows, after = tiny_table.vectors("image", tiny_model.fingerprint)
    assert rows.tolist() == list(range(9))
    np.testing.assert_array_equal(after[:8], before)


def test_what_is_interrupted_goes_on_and_gives_the_same(
    tiny_table: Table, tiny_model: JointEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed_rows(tiny_table, tiny_model, "image", np.arange(8))
    monkeypatch.setattr(embed, "ROWS_AT_ONCE", {**embed.ROWS_AT_ONCE, "image": 3})

    class Stop(Exception):
        pass

    def stop_after_two_commits(done: int, total: int | None, message: str) -> None:
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        embed_table(tiny_table, tiny_model, fields=["image"], progress=stop_after_two_commits)
    assert len(tiny_table.vectors_missing("image", tiny_model.fingerprint)) == 2
    assert embed_table(tiny_table, tiny_model, fields=["image"]).rows == {"image": 2}
    np.testing.assert_allclose(
        tiny_table.vectors("image", tiny_model.fingerprint)[1], whole.vectors, atol=1e-5
    )


def test_a_row_that_cannot_be_read_is_named_and_the_others_are_embedded(
    tiny_table: Table, tiny_model: JointEmbedding
) -> None:
    tiny_table.add([Sample("broken.png", image=b"\x89PNG\r\n\x1a\nbroken")])
    report = embed_table(tiny_table, tiny_model, fields=["image"])
    assert report.rows == {"image": 8}
    assert [(row, field) for row, field, _ in report.failures] == [(8, "image")]


def test_features_of_a_locked_tower_give_the_same_vectors(
    tiny_table: Table, tiny_model: JointEmbedding
) -> None:
    config = tiny_model.config.model_dump()
    config["towers"]["image"] |= {"frozen": True, "views": 2}
    model = JointEmbedding(type(tiny_model.config).model_validate(config))
    model.load_state_dict(tiny_model.state_dict())
    direct = embed_rows(tiny_table, model.eval(), "image", np.arange(8))
    cache_features(tiny_table, "image", model.tower("image"), views=5)
    cached = embed_rows(tiny_table, model, "image", np.array([6, 1]))
    np.testing.assert_allclose(cached.vectors, direct.vectors[[6, 1]], atol=1e-5)
    assert cached.rows.tolist() == [6, 1]


def test_fields_that_cannot_be_embedded_are_refused(tiny_table: Table, tiny_model: JointEmbedding) -> None:
    assert fields_of(tiny_table, tiny_model) == ["image", "text", "audio", "speech"]
    with pytest.raises(UsageError, match="'video': the table holds none"):
        fields_of(tiny_table, tiny_model, ["video"])
    with pytest.raises(UsageError, match="no field 'smell'"):
        fields_of(tiny_table, tiny_model, ["smell"])


def test_an_empty_table_gives_an_empty_report(tmp_path: Path, tiny_model: JointEmbedding) -> None:
    table = Table.create(tmp_path / "empty.lance")
    assert embed_table(table, tiny_model).rows == {}
