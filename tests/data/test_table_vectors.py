"""Features and vectors lie beside the rows: exact, resumable, never mixed."""

import numpy as np
import pytest
from rich_rows import rich_sample

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.data.table.table import Table

NAME = "image:cnn:9f3a"


def random(num: int, dim: int = 11) -> np.ndarray:
    return np.random.default_rng(num).standard_normal((num, dim)).astype(np.float32)


def test_features_come_back_in_row_order(rich_table):
    values = random(7)
    assert rich_table.features_missing(NAME).tolist() == list(range(53))
    rich_table.set_features(NAME, [9, 3], [0, 2, 3], values[:3])
    rich_table.set_features(NAME, [5, 4], [0, 0, 4], values[3:])
    found = rich_table.features(NAME)
    assert len(found) == 53
    assert found.dim == 11
    assert found.counts[:10].tolist() == [0, 0, 0, 1, 4, 0, 0, 0, 0, 2]
    for row, part in ((9, values[:2]), (3, values[2:3]), (4, values[3:])):
        np.testing.assert_array_equal(found[row], part)
    missing = rich_table.features_missing(NAME)
    assert missing.tolist() == sorted(set(range(53)) - {3, 4, 5, 9})
    assert set(rich_table.features_missing(NAME, "audio")) == set(range(0, 53, 5)) - {5}
    assert rich_table.feature_names() == [NAME]


def test_the_last_features_of_a_row_count_also_after_merging(rich_table):
    for round_ in range(70):
        rich_table.set_features("f", [round_ % 7], [0, 1], np.full((1, 3), round_, np.float32))
    for table in (rich_table, Table.open(rich_table.path)):
        assert table.features("f").values[:, 0].tolist() == [63, 64, 65, 66, 67, 68, 69]
    rich_table.optimize()
    assert rich_table.features("f").values[:, 0].tolist() == [63, 64, 65, 66, 67, 68, 69]


def test_features_know_rows_that_were_added_later(rich_table):
    rich_table.set_features("f", [52], [0, 1], random(1))
    rich_table.add([rich_sample(53)])
    assert len(rich_table.features("f")) == 54
    assert 53 in rich_table.features_missing("f")


def test_names_that_look_alike_stay_apart(rich_table):
    rich_table.set_features("a:b/c", [0], [0, 1], random(1, 2))
    rich_table.set_features("a:b:c", [0], [0, 1], random(1, 3))
    assert rich_table.features("a:b/c").dim == 2
    assert rich_table.features("a:b:c").dim == 3


def test_vectors_of_several_captions_and_models(rich_table):
    values = random(5)
    rich_table.set_vectors("text", "model1", [4, 2, 4], values[:3])
    rich_table.set_vectors("text", "model2", [1], values[3:4])
    rich_table.set_vectors("image", "model1", [1], values[4:])
    rows, vectors = rich_table.vectors("text", "model1")
    assert rows.tolist() == [2, 4, 4]
    np.testing.assert_array_equal(vectors, values[[1, 0, 2]])
    assert rich_table.fields_embedded() == {"model1": ["image", "text"], "model2": ["text"]}
    with_text = set(rich_table.rows_with("text").tolist())
    assert set(rich_table.vectors_missing("text", "model1").tolist()) == with_text - {2, 4}
    assert set(rich_table.vectors_missing("text", "model3").tolist()) == with_text


def test_wrong_vectors_are_refused_and_nothing_is_written(rich_table):
    values = random(2)
    rich_table.set_features("f", [1], [0, 1], values[:1])
    broken = values.copy()
    broken[1, 3] = np.nan
    with pytest.raises(TableError, match="row 8 is not finite"):
        rich_table.set_features("f", [2, 7, 8], [0, 1, 1, 2], broken)
    with pytest.raises(UsageError, match="do not fit"):
        rich_table.set_features("f", [2, 7], [0, 1], values)
    with pytest.raises(UsageError, match="11 wide, got 5"):
        rich_table.set_features("f", [2], [0, 2], values[:, :5])
    with pytest.raises(NotFoundError, match="no row 53"):
        rich_table.set_vectors("image", "m", [53], values[:1])
    with pytest.raises(UsageError, match="no field 'picture'"):
        rich_table.set_vectors("picture", "m", [3], values[:1])
    with pytest.raises(NotFoundError, match="there are: f"):
        rich_table.features("g")
    with pytest.raises(NotFoundError, match="there are: none"):
        rich_table.vectors("image", "m")
    assert rich_table.features("f").counts.sum() == 1
