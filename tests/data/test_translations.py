"""Translations: catalogues are read as gettext reads them, held-out captions are repeated nowhere."""

import gettext
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.data.collections import translations
from sensorium.data.collections.gettext import plain_pairs, read_catalogue
from sensorium.data.collections.packages import Package
from sensorium.data.collections.translations import (
    Catalogues,
    distinct,
    of_catalogues,
    of_cldr,
    of_stamps,
)
from sensorium.data.table.sample import Caption, Sample


def catalogue(pairs: dict[str, str], order: str = "<") -> bytes:
    """A `.mo` file: header, two tables of (length, place), the strings."""
    keys = sorted(pairs, key=lambda key: key.encode())
    strings = [key.encode() for key in keys] + [pairs[key].encode() for key in keys]
    start, table, blob = 28 + 16 * len(keys), b"", b""
    for text in strings:
        table += struct.pack(f"{order}2I", len(text), start + len(blob))
        blob += text + b"\0"
    return struct.pack(f"{order}7I", 0x950412DE, 0, len(keys), 28, 28 + 8 * len(keys), 0, 0) + table + blob


@pytest.mark.parametrize("order", ["<", ">"])
def test_catalogues_of_both_byte_orders_are_read(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.mo"
    path.write_bytes(catalogue({"": "header", "frog": "Frosch", "pond\x04key": "Schlüssel"}, order))
    assert read_catalogue(path) == {"frog": "Frosch", "key": "Schlüssel"}
    path.write_bytes(catalogue({"a frog\0frogs": "ein Frosch\0Frösche"}, order))
    assert read_catalogue(path) == {"a frog": "ein Frosch"}
    path.write_bytes(b"not a catalogue at all")
    with pytest.raises(ValueError, match="is not a gettext catalogue"):
        read_catalogue(path)


@given(st.dictionaries(st.text("abc äß青蛙", min_size=1), st.text("xyz éж", min_size=1), max_size=7))
def test_catalogues_are_read_as_the_standard_library_reads_them(pairs: dict[str, str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mo"
        path.write_bytes(catalogue({"": "Content-Type: text/plain; charset=UTF-8\n", **pairs}))
        with path.open("rb") as file:
            reference = gettext.GNUTranslations(file)
        assert read_catalogue(path) == {message: reference.gettext(message) for message in pairs}


@pytest.mark.parametrize(
    ("message", "translation", "found"),
    [
        ("_Save", "_Speichern", ("Save", "Speichern")),
        ("Save As…", "另存为(_A)...", ("Save As", "另存为")),
        ("%d files", "%d Dateien", None),
        ("Two\nlines", "Zwei\nZeilen", None),
        ("<b>Bold</b>", "<b>Fett</b>", None),
        ("snake_case name", "Name", ("snakecase name", "Name")),
        ("Name:", "Nom :", ("Name", "Nom")),
        ("OK", "OK", None),
        ("x", "y", None),
        ("12 34 a", "12 34 b", None),
        ("a " * 90, "b", None),
    ],
)
def test_messages_are_cleaned(message: str, translation: str, found: tuple[str, str] | None) -> None:
    assert plain_pairs({message: translation}) == (dict([found]) if found else {})


def stamp(number: int) -> Sample:
    texts = [Caption("en", f"Frog {number}."), Caption("zh-CN", "青蛙"), Caption("zh-TW", "青蛙!")]
    return Sample(f"stamps:{number}", image=b"x", texts=[*texts, Caption("tlh", "x")], licence="GPL-2.0-only")


def test_captions_are_divided_and_held_out_ones_come_first() -> None:
    rows = of_stamps([stamp(number) for number in range(97)])
    sources = [row.source for row in rows]
    assert sources == sorted(sources, key=["stamps-held-out", "stamps"].index)
    assert 0.25 < sources.count("stamps-held-out") / 97 < 0.55
    assert rows[0].texts[1:] == (Caption("zh", "青蛙"),)
    assert rows[0].image is None
    assert {row.source for row in of_stamps([stamp(5)])} <= set(sources)


def test_nothing_repeats_what_is_held_out(tmp_path: Path) -> None:
    held_out = next(row for row in of_stamps([stamp(number) for number in range(97)]))
    text = held_out.texts[0].text
    for locale in ("de", "zh_CN"):
        folder = tmp_path / locale / "LC_MESSAGES"
        folder.mkdir(parents=True)
        (folder / "pond.mo").write_bytes(catalogue({text.upper(): "anderes", "a pond": "ein Teich"}))
    one = Catalogues(Package("deb", "pond", "1", "0" * 64), ("pond", "absent"), "MIT")
    messages = list(of_catalogues(one, tmp_path))
    assert len(messages) == 2
    found = list(distinct([held_out, *messages, Sample("alone", texts=[Caption("en", "x")], group="x")]))
    assert [row.group for row in found] == [held_out.group, "a pond"]
    assert found[1].texts == (Caption("en", "a pond"), Caption("de", "ein Teich"), Caption("zh", "ein Teich"))
    assert (found[1].licence, found[1].source) == ("MIT", "catalogues")


def test_names_of_skin_tones_are_left_out(tmp_path: Path) -> None:
    names = {"en": ("frog", "frog: dark skin tone"), "fr": ("grenouille", "grenouille : peau foncée")}
    for tag, (frog, tone) in names.items():
        folder = tmp_path / "annotations" / tag
        folder.mkdir(parents=True)
        entries = f'{{"🐸": {{"tts": ["{frog}"]}}, "🐸🏿": {{"tts": ["{tone}"]}}}}'
        (folder / "annotations.json").write_text(f'{{"annotations": {{"annotations": {entries}}}}}')
    rows = list(of_cldr([tmp_path]))
    assert [row.texts for row in rows] == [(Caption("en", "frog"), Caption("fr", "grenouille"))]
    assert rows[0].uri == "translations:cldr:1f438"


def test_every_catalogue_states_its_licence() -> None:
    assert all(one.licence and one.domains for one in translations.CATALOGUES)
