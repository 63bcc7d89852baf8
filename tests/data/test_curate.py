"""Duplicates, filters, hashes and languages: against brute force and by their laws."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.data.curation.curate import filter_rows, find_duplicates, write_rows
from sensorium.data.curation.dedup import near_hash, near_vector, same_key
from sensorium.data.curation.filters import Filters, clip_scores
from sensorium.data.curation.language import count_words, detect_language, matches
from sensorium.data.curation.measure import measure_rows
from sensorium.data.curation.phash import perceptual_hash
from sensorium.data.table.sample import Caption, Clip, Sample
from sensorium.data.table.summary import summarise
from sensorium.data.table.table import Table


def scene(seed: int, width: int = 211, height: int = 157) -> np.ndarray:
    """A smooth picture: eleven blobs of colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    picture = np.zeros((height, width, 3))
    for _ in range(11):
        (at_x, at_y), spread = rng.random(2), 0.05 + 0.2 * rng.random()
        blob = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / spread**2)
        picture += blob[..., None] * rng.normal(0, 90, 3)
    return np.clip(picture + 128, 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def distance(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    return ((one ^ other) & (2**64 - 1)).bit_count()


def brute_force(hashes: list[int], most: int) -> list[int]:
    kept: list[int] = []
    result = []
    for place, code in enumerate(hashes):
        near = next((other for other in kept if distance(code, hashes[other]) <= most), None)
        result.append(place if near is None else near)
        kept.extend([place] if near is None else [])
    return result


def test_hash_survives_scaling_compression_and_tone() -> None:
    for seed in range(7):
        pixels = scene(seed)
        image = Image.fromarray(pixels)
        original = perceptual_hash(pixels)
        smaller = perceptual_hash(np.asarray(image.resize((97, 73))))
        packed = perceptual_hash(np.asarray(Image.open(io.BytesIO(encode(pixels, "JPEG", quality=30)))))
        darker = perceptual_hash((pixels * 0.8).astype(np.uint8))
        assert max(distance(original, other) for other in (smaller, packed, darker)) <= 4


def test_hashes_of_other_pictures_are_far() -> None:
    hashes = [perceptual_hash(scene(seed)) for seed in range(40)]
    near = [distance(a, b) for place, a in enumerate(hashes) for b in hashes[:place]]
    assert min(near) > 8
    assert 24 < np.mean(near) < 36


def test_flat_pictures_have_no_hash() -> None:
    assert perceptual_hash(np.full((13, 11, 3), 200, np.uint8)) is None
    assert perceptual_hash(np.zeros((1, 1, 3), np.uint8)) is None


@pytest.mark.parametrize("most", [0, 1, 3, 4, 7, 16])
def test_near_hashes_equal_brute_force(most: int) -> None:
    rng = np.random.default_rng(most)
    base = rng.integers(-(2**63), 2**63 - 1, 60, dtype=np.int64)
    hashes = [int(base[rng.integers(60)]) for _ in range(400)]
    for place in range(400):
        for bit in rng.choice(64, rng.integers(0, 9), replace=False):
            hashes[place] ^= int(np.int64(np.uint64(1) << np.uint64(bit)))
    assert near_hash(np.array(hashes, dtype=np.int64), most).tolist() == brute_force(hashes, most)


@given(st.lists(st.integers(0, 7), max_size=20), st.integers(0, 3))
def test_near_hashes_with_many_equal(codes: list[int], most: int) -> None:
    assert near_hash(np.array(codes, dtype=np.int64), most).tolist() == brute_force(codes, most)


def test_near_hash_checks_its_bound() -> None:
    with pytest.raises(UsageError, match="0 to 16"):
        near_hash(np.zeros(3, np.int64), 17)


def test_near_vectors_equal_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.data.curation.dedup._BLOCK", 7)
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(11, 5))[rng.integers(0, 11, 103)] + 0.15 * rng.normal(size=(103, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found = near_vector(vectors, 0.95)
    kept = np.flatnonzero(found == np.arange(103))
    assert np.all(found[found] == found)
    cosines = vectors @ vectors.T
    assert np.all(cosines[np.arange(103), found] >= 0.95 - 1e-6)
    assert np.all(np.triu(cosines[kept][:, kept], 1) < 0.95)
    for row in kept:
        assert np.all(cosines[row, kept[kept < row]] < 0.95)
    assert near_vector(np.zeros((0, 5), np.float32), 0.9).tolist() == []


def test_same_key_takes_the_first() -> None:
    assert same_key([b"x", b"y", b"x", b"y", b"z"]).tolist() == [0, 1, 0, 1, 4]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    made = Table.create(tmp_path / "t.lance", licence="MIT")
    big, small = scene(1), np.asarray(Image.fromarray(scene(1)).resize((101, 75)))

    def picture(name: str, pixels: np.ndarray, *texts: Caption) -> Sample:
        height, width = pixels.shape[:2]
        return Sample(
            name,
            image=encode(pixels),
            texts=texts,
            phash=perceptual_hash(pixels),
            width_px=width,
            height_px=height,
        )

    made.add(
        [
            picture("small", small, Caption("", "the frog on a leaf")),
            picture("big", big, Caption("en", "frog"), Caption("fr", "une grenouille")),
            picture("again", big, Caption("en", "a big frog")),
            picture("other", scene(2), Caption("", "der Hund und die Katze")),
            picture("wide", scene(3, 307, 31), Caption("", "frog")),
            picture("flat", np.full((61, 61, 3), 9, np.uint8)),
            Sample("words", texts=[Caption("pt-BR", "um sapo verde")]),
            Sample("sound", speech=[Clip("en", b"x")], duration_s=2.5),
        ]
    )
    return made


def test_duplicates_by_content_and_by_look(table: Table) -> None:
    content = find_duplicates(table, "content")
    assert (content.repeats, content.dropped) == (((2, 1),), {"repeats another by content": 1})
    look = find_duplicates(table, "phash")
    assert look.repeats == ((0, 1), (2, 1))
    assert look.rows.tolist() == [1, 3, 4, 5, 6, 7]
    assert look.not_compared == 3


def test_duplicates_by_embedding(table: Table) -> None:
    vectors = np.eye(5, dtype=np.float32)[[0, 0, 1, 2]]
    table.set_vectors("image", "model", [0, 1, 3, 4], vectors)
    found = find_duplicates(table, "embedding", fingerprint="model", min_cosine=0.99)
    assert (found.repeats, found.not_compared) == (((0, 1),), 4)
    with pytest.raises(NotFoundError):
        find_duplicates(table, "embedding", fingerprint="none")
    with pytest.raises(UsageError, match="cosine"):
        find_duplicates(table, "embedding", fingerprint="model", min_cosine=1.5)


@pytest.mark.parametrize(
    ("filters", "dropped", "kept"),
    [
        (Filters(min_px=76), {"short side under 76 px": 3}, [1, 2, 3, 6, 7]),
        (Filters(max_aspect=2.0), {"aspect over 2": 1}, [0, 1, 2, 3, 5, 6, 7]),
        (Filters(min_s=3.0), {"shorter than 3 s": 1}, [0, 1, 2, 3, 4, 5, 6]),
        (Filters(languages=("en",)), {"language not en": 2}, [0, 1, 2, 4, 5, 7]),
        (Filters(languages=("en",), is_strict=True), {"language not en": 3}, [0, 1, 2, 5, 7]),
        (Filters(languages=("fr", "pt")), {"language not fr or pt": 3}, [1, 4, 5, 6, 7]),
        (Filters(min_words=3), {"fewer than 3 words": 2}, [0, 2, 3, 5, 6, 7]),
        (Filters(max_words=2), {"more than 2 words": 4}, [1, 4, 5, 7]),
        (
            Filters(languages=("en",), min_words=2, min_px=40),
            {"language not en": 2, "short side under 40 px": 1, "fewer than 2 words": 1},
            [0, 2, 5, 7],
        ),
    ],
)
def test_filters_drop_with_a_reason(
    table: Table, filters: Filters, dropped: dict[str, int], kept: list[int]
) -> None:
    found = filter_rows(table, filters)
    assert (found.dropped, found.rows.tolist()) == (dropped, kept)


def test_clip_score_is_the_cosine_to_the_best_text(table: Table) -> None:
    unit = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    table.set_vectors("image", "m", [0, 1, 3, 5], unit[[0, 0, 0, 0]])
    table.set_vectors("text", "m", [0, 1, 1, 3, 6], unit[[1, 2, 1, 2, 0]])
    scores = clip_scores(table, "m")
    np.testing.assert_allclose(scores[[0, 1, 3]], [0.6, 0.6, 0.0], atol=1e-7)
    assert np.isnan(scores[[2, 4, 5, 6, 7]]).all()
    found = filter_rows(table, Filters(min_clip_score=0.5), scores)
    assert (found.rows.tolist(), found.not_compared) == ([0, 1, 2, 4, 5, 6, 7], 5)
    with pytest.raises(UsageError, match="--model"):
        filter_rows(table, Filters(min_clip_score=0.5))
    with pytest.raises(NotFoundError):
        clip_scores(table, "other")


def test_a_new_table_holds_what_stays_and_the_old_one_everything(table: Table, tmp_path: Path) -> None:
    before = list(table.ids)
    new = write_rows(table, np.array([1, 4, 7]), tmp_path / "new.lance")
    assert new.ids == [before[row] for row in (1, 4, 7)]
    assert new.rows([0]) == table.rows([1])
    assert (Table.open(table.path).ids, new.info["licence"]) == (before, "MIT")
    with pytest.raises(TableError, match="exists"):
        write_rows(table, np.array([1]), tmp_path / "new.lance")


def test_summary_counts(table: Table) -> None:
    summary = summarise(table, num_examples=2)
    assert (summary.rows, summary.fields) == (8, {"image": 6, "text": 6, "speech": 1})
    assert summary.languages == {"": 3, "en": 2, "fr": 1, "pt-BR": 1}
    assert [entry["uri"] for entry in summary.examples] == ["small", "big"]
    assert summary.as_dict()["licences"] == {"": 8}


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "A man is riding a horse on the beach."),
        ("de", "Ein Mann reitet auf einem Pferd am Strand."),
        ("fr", "Un homme monte à cheval sur la plage avec une amie."),
        ("es", "Un hombre monta a caballo en la playa con los perros."),
        ("it", "Un uomo è a cavallo sulla spiaggia con il cane."),
        ("nl", "Een man rijdt op een paard met het kind."),
        ("ru", "Человек едет на лошади по пляжу."),
        ("uk", "Людина їде на коні пляжем."),
        ("zh", "一个人在海滩上骑马。"),
        ("ja", "男の人が浜辺で馬に乗っている。"),
        ("ko", "한 남자가 해변에서 말을 타고 있다."),
        ("ar", "رجل يركب حصانا على الشاطئ"),
        ("el", "Ένας άντρας ιππεύει."),
        ("hi", "एक आदमी घोड़े पर सवार है।"),
        ("", "red car"),
        ("", "123 !?"),
        ("", ""),
    ],
)
def test_languages(language: str, text: str) -> None:
    assert detect_language(text) == language


def test_words_and_tags() -> None:
    assert [count_words(text) for text in ("", "a b-c d'e", "马 car", "x2 y")] == [0, 5, 2, 2]
    assert matches("pt-BR", "pt")
    assert matches("en_US", "en-us")
    assert not matches("pt", "pt-BR")
    assert not matches("eng", "en")


def test_tables_that_nobody_measured_are_measured_now(tmp_path: Path) -> None:
    """Rows from elsewhere hold no sizes and hashes; they are compared all the same."""
    import soundfile

    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(4000), 8000, format="WAV")
    pixels = scene(4)
    table = Table.create(tmp_path / "t.lance")
    table.add(
        [
            Sample("small", image=encode(np.asarray(Image.fromarray(pixels).resize((101, 75))))),
            Sample("big", image=encode(pixels), audio=sound.getvalue()),
            Sample("flat", image=encode(np.zeros((61, 53, 3), np.uint8))),
            Sample("broken", image=b"no image"),
        ]
    )
    known = measure_rows(table, hashes=True)
    assert known.width_px.tolist() == [101, 211, 53, 0]
    assert known.height_px.tolist() == [75, 157, 61, 0]
    assert known.has_hash.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(known.duration_s, [np.nan, 0.5, np.nan, np.nan])
    assert find_duplicates(table, "phash").repeats == ((0, 1),)
    assert filter_rows(table, Filters(min_px=80, min_s=0.7)).rows.tolist() == [3]


def test_one_shape_in_two_colours_is_two_pictures(tmp_path: Path) -> None:
    """A hash sees grey: red and blue of one brightness have one hash, but not one colour."""
    shape = np.asarray(Image.fromarray(scene(6)).convert("L"), dtype=np.float64)[..., None]
    red = np.clip(shape * [1.2, 0.8, 0.8], 0, 255).astype(np.uint8)
    blue = np.clip(shape * [0.8, 0.8, 1.2], 0, 255).astype(np.uint8)
    table = Table.create(tmp_path / "t.lance")
    table.add([Sample("red", image=encode(red)), Sample("blue", image=encode(blue))])
    table.add([Sample("packed red", image=encode(red, "JPEG", quality=60))])
    assert find_duplicates(table, "phash").repeats == ((2, 0),)
