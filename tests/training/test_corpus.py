"""Which rows train and which are held out, over several tables."""

from pathlib import Path

import numpy as np
import pytest
from small_tables import PAIRS, make_table, picture

from sensorium.core.errors import ConfigError, NotFoundError
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from sensorium.training.embedding.corpus import open_corpus
from sensorium.training.recipe import DataConfig

FIELDS = ("image", "text")


def data(folder: Path, **options: object) -> DataConfig:
    return DataConfig.model_validate({"table": str(folder / "main.lance"), "test": 0.4, **options})


def test_no_group_parts_and_every_row_is_somewhere(tmp_path: Path) -> None:
    table = make_table(tmp_path / "main.lance")
    corpus = open_corpus(data(tmp_path), FIELDS, seed=3)
    assert sorted([*corpus.train, *corpus.test]) == list(range(24))
    groups = np.array(table.groups)
    assert not set(groups[corpus.train]) & set(groups[corpus.test])
    assert len(corpus.test) % 3 == 0
    other = open_corpus(data(tmp_path), FIELDS, seed=4)
    assert not np.array_equal(corpus.test, other.test)


def test_a_source_is_held_out_whole(tmp_path: Path) -> None:
    make_table(tmp_path / "main.lance")
    corpus = open_corpus(data(tmp_path, test={"source": ["maker-0", "maker-2"]}), FIELDS, seed=0)
    assert corpus.train.tolist() == list(range(8, 16))
    with pytest.raises(ConfigError, match="no row has source 'nobody'; known: maker-0, maker-1, maker-2"):
        open_corpus(data(tmp_path, test={"source": "nobody"}), FIELDS, seed=0)


def test_extra_rows_called_like_held_out_ones_are_dropped(tmp_path: Path) -> None:
    make_table(tmp_path / "main.lance")
    extra = Table.create(tmp_path / "extra.lance")
    names = [f"A {colour.upper()}, {shape}!" for colour, shape in PAIRS]
    extra.add(
        [
            Sample(f"{n}", image=picture("red", "box", n), texts=[Caption("en", name)])
            for n, name in enumerate(names)
        ]
        + [Sample("own", image=picture("red", "disc", 4), texts=[Caption("en", "a thing of its own")])]
    )
    corpus = open_corpus(data(tmp_path, extra=[str(tmp_path / "extra.lance")]), FIELDS, seed=3)
    held_out = {corpus.groups[row] for row in corpus.test}
    kept = [row for row in corpus.train if row >= 24]
    assert held_out
    assert kept[-1] == 32
    assert not {corpus.groups[row] for row in kept} & held_out
    assert len(kept) == 9 - len(held_out)


def test_rows_are_read_and_named_through_all_tables(tmp_path: Path) -> None:
    make_table(tmp_path / "main.lance", 1)
    extra = make_table(tmp_path / "extra.lance", 2)
    corpus = open_corpus(data(tmp_path, extra=[str(tmp_path / "extra.lance")]), FIELDS, seed=1)
    assert len(corpus) == 24
    uris = [sample.uri for sample in corpus.rows([17, 2, 8, 17])]
    assert uris == [
        *("red-disc-1.png" for _ in range(0)),
        "red-box-1.png",
        "green-disc-0.png",
        "red-disc-0.png",
        "red-box-1.png",
    ]
    assert corpus.name_rows([17])[0].startswith(f"9 ({extra.ids[9]} in ")
    assert corpus.name_rows([24]) == ["class vector 0"]
    assert corpus.rows_with("speech").tolist() == [*range(16)]


def test_identity_follows_content_and_order(tmp_path: Path) -> None:
    table = make_table(tmp_path / "main.lance", 1)
    before = open_corpus(data(tmp_path), FIELDS, seed=1).identity()
    assert open_corpus(data(tmp_path), FIELDS, seed=1).identity() == before
    table.add([Sample("new", texts=[Caption("en", "new")])])
    assert open_corpus(data(tmp_path), FIELDS, seed=1).identity() != before


def test_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"main\.lance"):
        open_corpus(data(tmp_path), FIELDS, seed=1)
