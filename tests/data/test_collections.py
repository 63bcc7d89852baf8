import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sensorium.core.errors import FetchError, NotFoundError
from sensorium.core.runtime import Progress, quiet
from sensorium.data import collections as packages
from sensorium.data.collections import clipart, emoji, stamps
from sensorium.data.collections.gettext import bcp47
from sensorium.data.curation.measure import measure_rows
from sensorium.data.table.sample import Caption, Clip, Sample
from tiny_world import draw_shape


def write(path: Path, content: str | bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_stamp_holds_picture_captions_sound_and_speech(tmp_path: Path) -> None:
    pond = tmp_path / "animals/pond"
    write(pond / "frog.png", b"picture")
    write(pond / "frog.txt", "A frog.\nde.utf8=Ein Frosch.\nsr@latin.utf8=Žaba.\nzu.utf8=\n")
    write(pond / "frog.ogg", b"croak")
    write(pond / "frog_desc.ogg", b"english")
    write(pond / "frog_desc_pt_BR.wav", b"portuguese")
    write(pond / "frog_el.ogg", b"greek")
    write(pond / "frog_green.png", b"another")
    write(pond / "frog_green.txt", "A green frog.")
    write(pond / "frog_green_desc_fr.ogg", b"french")
    write(pond / "frog_mirror.png", b"variant")
    frog, green = stamps.read_folder(tmp_path, "GPL-2.0-only")
    assert frog.texts == (Caption("en", "A frog."), Caption("de", "Ein Frosch."), Caption("sr-Latn", "Žaba."))
    assert (frog.image, frog.audio) == (b"picture", b"croak")
    assert frog.speech == (Clip("en", b"english"), Clip("pt-BR", b"portuguese"), Clip("el", b"greek"))
    assert (frog.group, frog.meta["category"], frog.licence) == ("a frog", "animals/pond", "GPL-2.0-only")
    assert frog.uri == "stamps:animals/pond/frog.png"
    assert green.speech == (Clip("fr", b"french"),)


def test_stamp_without_caption_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "frog.png")
    write(tmp_path / "toad.png")
    write(tmp_path / "toad.txt", "\n")
    assert list(stamps.read_folder(tmp_path, "")) == []


def test_licence_comes_from_the_copyright_file(tmp_path: Path) -> None:
    place = tmp_path / "usr/share/doc" / stamps.PACKAGE.name / "copyright"
    write(place, "Format: x\n\nFiles: *\nCopyright: me\nLicense: GPL-2\n\nFiles: debian/*\nLicense: MIT\n")
    assert stamps.licence_of(tmp_path) == "GPL-2.0-only"
    write(place, "Files: *\nLicense: CC0-1.0\n")
    assert stamps.licence_of(tmp_path) == "CC0-1.0"


SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about="">
<dc:title>{title}</dc:title>
<dc:subject><rdf:Bag><rdf:li>dogs</rdf:li><rdf:li>sleepy</rdf:li><rdf:li></rdf:li></rdf:Bag></dc:subject>
<dc:creator><cc:Agent><dc:title>Ann Artist</dc:title></cc:Agent></dc:creator>
<cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"/>
</cc:Work></rdf:RDF></metadata><path d="M0 0"/></svg>"""


def test_drawing_is_described_by_its_svg(tmp_path: Path) -> None:
    write(tmp_path / "png/animals/dogs/hound_ann_02.png", b"picture")
    write(tmp_path / "svg/animals/dogs/hound_ann_02.svg", SVG.format(title="Bored hound"))
    (tmp_path / "png/link.png").symlink_to("animals/dogs/hound_ann_02.png")
    (sample,) = clipart.read_folders(tmp_path / "png", tmp_path / "svg")
    assert sample.texts == (Caption("en", "Bored hound"), Caption("en", "sleepy"))
    assert (sample.group, sample.licence) == ("bored hound", "CC-PDDC")
    assert "Ann Artist" in str(sample.meta["creator"])


@pytest.mark.parametrize("title", ["", "Part of the Flat Icon Collection", "Clipart by Nicu Buculei - fish"])
def test_title_that_names_a_collection_gives_way_to_the_file_name(title: str) -> None:
    work = clipart.Work(title=title, creator="Ann Artist")
    assert clipart.captions(Path("dogs/old_hound_ann_02.png"), work) == ["old hound"]
    assert clipart.captions(Path("dogs/0_12.png"), work) == ["dogs"]


def test_broken_drawing_says_nothing(tmp_path: Path) -> None:
    assert clipart.describe(write(tmp_path / "a.svg", "<svg><")) == clipart.Work()
    assert clipart.describe(tmp_path / "none.svg") == clipart.Work()


def annotations(root: str, entries: dict[str, list[str]]) -> str:
    values = {key: {"tts": names[:1], "default": names[1:]} for key, names in entries.items()}
    return json.dumps({root: {"identity": {}, "annotations": values}})


def test_emoji_names_are_read_by_language(tmp_path: Path) -> None:
    write(tmp_path / "annotations/en/annotations.json", annotations("annotations", {"❤": ["heart", "love"]}))
    write(
        tmp_path / "derived/en/annotations.json", annotations("annotationsDerived", {"🇫🇷": ["flag: France"]})
    )
    write(tmp_path / "annotations/de/annotations.json", annotations("annotations", {"❤": ["Herz"]}))
    names = emoji.read_names([tmp_path])
    assert names["en"] == {"❤": ["heart", "love"], "🇫🇷": ["flag: France"]}
    assert names["de"] == {"❤": ["Herz"]}


def test_emoji_captions_leave_out_what_a_parent_language_says() -> None:
    names = {
        "en": {"❤": ["heart", "heart", "love"]},
        "de": {"❤": ["Herz"]},
        "de-CH": {"❤": ["Herz"]},
        "de-AT": {"❤": ["Herzerl"]},
        "fr": {},
    }
    entry = {"unified": "2764-FE0F", "name": "HEAVY BLACK HEART", "short_name": "heart"}
    assert emoji._captions(entry, names) == [
        Caption("en", "heart"),
        Caption("en", "love"),
        Caption("de", "Herz"),
        Caption("de-AT", "Herzerl"),
    ]


def test_unknown_collection_is_refused() -> None:
    with pytest.raises(NotFoundError, match="stamps"):
        packages.get("stamp")


@pytest.mark.parametrize("locale", ["de", "pt-BR", "sr-Latn"])
def test_language_tags_stay(locale: str) -> None:
    assert bcp47(locale).lower() == locale.lower()


class Pond:
    NAME = "pond"
    DESCRIPTION = "frogs"
    LICENCE = "CC0-1.0"
    fails = False

    def read(self, progress: Progress = quiet) -> Iterator[Sample]:
        yield Sample("pond:1", texts=[Caption("en", "a frog")])
        if self.fails:
            raise FetchError("no network")
        yield Sample("pond:2", texts=[Caption("en", "a toad")])


@pytest.fixture
def pond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pond:
    monkeypatch.setenv("SENSORIUM_CACHE", str(tmp_path))
    pond = Pond()
    monkeypatch.setitem(packages.COLLECTIONS._builders, "pond", lambda: pond)
    return pond


def test_table_is_whole_or_absent(pond: Pond, tmp_path: Path) -> None:
    pond.fails = True
    with pytest.raises(FetchError):
        packages.get("pond")
    assert list((tmp_path / "tables").iterdir()) == []
    pond.fails = False
    table = packages.get("pond")
    assert (len(table), table.info["licence"], table.info["description"]) == (2, "CC0-1.0", "frogs")


def test_table_elsewhere_gets_what_it_lacks(pond: Pond, tmp_path: Path) -> None:
    path = tmp_path / "mine.lance"
    packages.get("pond", path).add([Sample("own", texts=[Caption("en", "a newt")])])
    assert len(packages.get("pond", path)) == 3


def test_rows_carry_the_measures_of_their_media(pond: Pond, monkeypatch: pytest.MonkeyPatch) -> None:
    tone = io.BytesIO()
    soundfile.write(tone, np.zeros(4000, np.float32), 16000, format="WAV")
    monkeypatch.setattr(pond, "read", lambda progress: iter([
        Sample("shape", image=draw_shape("a red circle", 37), audio=tone.getvalue()),
        Sample("broken", image=b"picture"),
        Sample("words", texts=[Caption("en", "a frog")]),
    ]))  # fmt: skip
    table = packages.get("pond")
    assert table.column("width_px").tolist() == table.column("height_px").tolist() == [37, -1, -1]
    np.testing.assert_allclose(table.column("duration_s"), [0.25, np.nan, np.nan])
    assert table.where("phash IS NOT NULL").tolist() == [0]
    assert table.column("phash")[0] == measure_rows(table, hashes=True).phash[0]


@pytest.mark.network
@pytest.mark.slow
def test_stamps_are_those_of_the_package() -> None:
    samples = list(packages.samples("stamps"))
    assert len(samples) == len({sample.id for sample in samples}) == 785
    assert sum(sample.audio is not None for sample in samples) == 131
    assert sum(len(sample.speech) for sample in samples) == 6562
    assert len({sample.group for sample in samples}) == 644
    assert {sample.licence for sample in samples} == {"GPL-2.0-only"}
