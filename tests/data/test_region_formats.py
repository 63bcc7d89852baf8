"""COCO, ODVG, Flickr30k Entities, RefCOCO: the same boxes come out; what is bad costs only itself."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sensorium.core.errors import MediaError
from sensorium.data.ingest.errors import NAME
from sensorium.data.ingest.prepare import Options, prepare
from sensorium.data.ingest.sources import Failure
from sensorium.data.ingest.sources.annotation import checked_box
from sensorium.data.ingest.sources.flickr30k_entities import read_sentence
from sensorium.data.ingest.sources.refcoco import read_pickle
from sensorium.data.table.sample import Region
from sensorium.data.table.table import Table

DOG, CAT = (11.0, 13.0, 31.0, 43.0), (41.0, 5.0, 53.0, 17.0)
CAPTION = "A dog and a cat."


def picture(path: Path, size: tuple[int, int] = (61, 53)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 60).convert("RGB").save(path)


def xywh(box: tuple[float, ...]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def prepared(src: Path, tmp_path: Path, **options: Any) -> tuple[Table, int]:
    counts = prepare(src, tmp_path / "t.lance", Options(num_workers=0, **options))
    return Table.open(tmp_path / "t.lance"), counts.failed


def write_coco(folder: Path, annotations: list[dict[str, Any]], **image: Any) -> Path:
    picture(folder / "images" / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 61, "height": 53, **image}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def test_coco_detections_are_regions_by_category(tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "category_id": 3, "bbox": xywh(DOG)},
        {"image_id": 7, "category_id": 5, "bbox": xywh(CAT)},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 61, 53], "iscrowd": 1},
        {"image_id": 7, "caption": "Two dogs."},
    ]
    table, failed = prepared(write_coco(tmp_path / "c", annotations), tmp_path)
    (row,) = table.rows([0])
    assert failed == 0
    assert row.regions == (Region("dog", 0, 3, [DOG, (0.0, 0.0, 5.0, 5.0)]), Region("cat", 0, 3, [CAT]))
    assert [caption.text for caption in row.texts] == ["Two dogs."]
    assert row.source == "coco"


def test_coco_tokens_positive_are_characters_of_the_caption(tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "bbox": xywh(DOG), "tokens_positive": [[0, 5]]},
        {"image_id": 7, "bbox": xywh(CAT), "tokens_positive": [[10, 15]]},
    ]
    table, _ = prepared(write_coco(tmp_path / "c", annotations, caption=CAPTION), tmp_path)
    (row,) = table.rows([0])
    assert [(region.phrase, region.boxes) for region in row.regions] == [("A dog", (DOG,)), ("a cat", (CAT,))]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}, "not four numbers"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 2, -3, 4]}, "no area as xywh"),
        ({"image_id": 7, "category_id": 3, "bbox": [50, 2, 30, 4]}, "leaves the image of 61 x 53"),
        ({"image_id": 7, "category_id": 3, "bbox": [0.1, 0.1, 0.2, 0.2]}, "seems to be normalised"),
        ({"image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4]}, "not among the categories"),
        ({"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]}, "image_id"),
        ({"image_id": 7, "bbox": [1, 2, 3, 4], "tokens_positive": [[9, 99]]}, "not within the text"),
        (["nonsense"], "image_id"),
    ],
)
def test_a_bad_annotation_costs_only_itself(tmp_path: Path, annotation: Any, reason: str) -> None:
    good = {"image_id": 7, "category_id": 3, "bbox": xywh(DOG)}
    src = write_coco(tmp_path / "c", [annotation, good], caption=CAPTION)
    table, failed = prepared(src, tmp_path)
    assert failed == 1
    assert table.rows([0])[0].regions == (Region("dog", 0, 3, [DOG]),)
    (line,) = (tmp_path / NAME).read_text().splitlines()
    assert reason in json.loads(line)["reason"]
    assert "annotations/0" in line


def test_odvg_finds_phrases_and_tells_equal_ones_apart(tmp_path: Path) -> None:
    picture(tmp_path / "c" / "a.png")
    regions = [
        {"phrase": "a dog", "bbox": list(DOG)},
        {"phrase": "a dog", "bbox": [list(CAT), [1, 2, 3, 4]]},
        {"phrase": "a bird", "bbox": list(DOG)},
    ]
    line = {"filename": "a.png", "width": 61, "height": 53}
    caption = {"caption": "A dog beside a dog.", "regions": regions}
    label = {"instances": [{"bbox": list(CAT), "label": 1, "category": "cat"}]}
    path = tmp_path / "c" / "odvg.jsonl"
    path.write_text(
        json.dumps({**line, "grounding": caption}) + "\n" + json.dumps({**line, "detection": label}) + "\n"
    )
    table, failed = prepared(path, tmp_path)
    first, second = table.rows([0, 1])
    assert failed == 1
    assert [(r.start, r.boxes) for r in first.regions] == [(0, (DOG,)), (13, (CAT, (1.0, 2.0, 3.0, 4.0)))]
    assert second.regions == (Region("cat", 0, 3, [CAT]),)


def test_flickr30k_entities(tmp_path: Path) -> None:
    folder = tmp_path / "f30k"
    picture(folder / "flickr30k-images" / "12.jpg")
    (folder / "Sentences").mkdir()
    (folder / "Annotations").mkdir()
    sentences = "[/EN#1/animals A dog] and [/EN#2/animals a cat] in [/EN#3/scene a garden] .\n"
    sentences += "[/EN#0/notvisual It] sits .\n"
    (folder / "Sentences" / "12.txt").write_text(sentences)
    boxes = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, extra, (x0, y0, x1, y1) in (
            (1, "<name>9</name>", (11, 13, 31, 43)),
            (2, "", (41, 5, 53, 17)),
        )
    )
    no_box = "<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>"
    size = "<size><width>61</width><height>53</height><depth>3</depth></size>"
    (folder / "Annotations" / "12.xml").write_text(f"<annotation>{size}{boxes}{no_box}</annotation>")
    (folder / "Sentences" / "13.txt").write_text("[/EN#1/animals A dog] .")
    table, failed = prepared(folder, tmp_path)
    (row,) = table.rows([0])
    assert failed == 1  # 13 has no annotations
    assert [caption.text for caption in row.texts] == ["A dog and a cat in a garden .", "It sits ."]
    assert [(region.phrase, region.boxes) for region in row.regions] == [("A dog", (DOG,)), ("a cat", (CAT,))]
    assert len(table) == 1


def test_refcoco_splits_are_sources(tmp_path: Path) -> None:
    folder = tmp_path / "refcoco"
    picture(folder / "images" / "a.png")
    instances = {
        "images": [{"id": 7, "file_name": "a.png", "width": 61, "height": 53}],
        "annotations": [
            {"id": 1, "image_id": 7, "bbox": xywh(DOG)},
            {"id": 2, "image_id": 7, "bbox": xywh(CAT)},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(instances))
    refs = [
        {
            "ann_id": 1,
            "image_id": 7,
            "split": "train",
            "sentences": [{"sent": "left dog"}, {"raw": "The dog"}],
        },
        {"ann_id": 2, "image_id": 7, "split": "testA", "sentences": [{"sent": "cat"}]},
        {"ann_id": 3, "image_id": 7, "split": "testA", "sentences": []},
        {"image_id": 7},
    ]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs))
    table, failed = prepared(folder, tmp_path)
    assert failed == 2
    assert {row.source: row.regions for row in table.rows([0, 1])} == {
        "refcoco-train": (Region("left dog", 0, 8, [DOG]), Region("The dog", 0, 7, [DOG])),
        "refcoco-testA": (Region("cat", 0, 3, [CAT]),),
    }


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("never",))

    (tmp_path / "refs.p").write_bytes(pickle.dumps([Bad()]))
    with pytest.raises(MediaError, match=r"needs builtins\.print"):
        read_pickle(tmp_path / "refs.p")


def test_images_are_looked_for_where_told_and_nowhere_above(tmp_path: Path) -> None:
    src = write_coco(tmp_path / "c", [{"image_id": 7, "category_id": 3, "bbox": xywh(DOG)}])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "c" / "images" / "a.png").rename(tmp_path / "elsewhere" / "a.png")
    table, failed = prepared(src, tmp_path)
    assert (len(table), failed) == (0, 1)
    table, failed = prepared(src, tmp_path, root=tmp_path / "elsewhere")
    assert (len(table), failed) == (1, 0)
    content = json.loads(src.read_text())
    content["images"][0]["file_name"] = "../elsewhere/a.png"
    src.write_text(json.dumps(content))
    from sensorium.data.ingest.sources.coco import items

    (outcome,) = items(src, root=tmp_path / "c")
    assert isinstance(outcome, Failure)
    assert "leads outside" in outcome.reason


def test_a_box_that_sticks_out_a_little_is_cut() -> None:
    assert checked_box([-1, 0, 62, 53], "xyxy", 61.0, 53.0) == (0, 0, 61, 53)
    with pytest.raises(ValueError, match="leaves the image"):
        checked_box([-3, 0, 61, 53], "xyxy", 61.0, 53.0)
    with pytest.raises(ValueError, match="no area"):
        checked_box([0, float("nan"), 61, 53], "xyxy")


def test_a_sentence_without_marks_is_itself() -> None:
    assert read_sentence("nothing [here] is marked") == ("nothing [here] is marked", [])


DEEP: Any = json.loads("[" * 900 + "]" * 900)
ODD = [
    None,
    True,
    7,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    [[]],
    {},
    DEEP,
    [1, 2, 3, 10**400],
    [DEEP] * 4,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda value: str(type(value).__name__))
def test_odd_values_cost_their_annotation_only(tmp_path: Path, odd: Any) -> None:
    from sensorium.data.ingest.prepare import list_items

    picture(tmp_path / "a.png")
    good = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
    annotations = [{**good, key: odd} for key in good] + [
        odd,
        {**good, "tokens_positive": odd},
        {"caption": odd},
        good,
    ]
    image = {"id": 7, "file_name": "a.png", "width": odd, "height": odd, "caption": odd}
    content = {
        "images": [{"id": odd, "file_name": "a.png"}, {"id": 7, "file_name": odd}, odd, image],
        "annotations": annotations,
        "categories": [{"id": odd, "name": odd}, odd, {"id": 3, "name": "dog"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    region = {"phrase": "dog", "bbox": [1, 2, 3, 4]}
    regions = [{**region, key: odd} for key in (*region, "tokens_positive")] + [odd, region]
    line = {"filename": "a.png", "width": odd, "grounding": {"caption": "a dog", "regions": regions}}
    instance = {"category": "dog", "bbox": [1, 2, 3, 4]}
    other = {
        "filename": "a.png",
        "detection": {"instances": [{**instance, key: odd} for key in instance] + [odd, instance]},
    }
    third = {"filename": odd, "grounding": odd, "detection": odd}
    (tmp_path / "odvg.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (line, other, third)))
    (tmp_path / "ref").mkdir()
    picture(tmp_path / "ref" / "a.png")
    ref = {"ann_id": 1, "image_id": 7, "split": "train", "sentences": [{"sent": "dog"}], "file_name": "a.png"}
    (tmp_path / "ref" / "refs.json").write_text(json.dumps([{**ref, key: odd} for key in ref] + [odd, ref]))
    boxes = [{"id": odd, "image_id": odd, "bbox": odd}, odd, {"id": 1, "image_id": 7, "bbox": [1, 2, 3, 4]}]
    (tmp_path / "ref" / "instances.json").write_text(
        json.dumps({"images": content["images"], "annotations": boxes})
    )
    for src in ("coco.json", "odvg.jsonl", "ref"):
        found = list(list_items(tmp_path / src, Options()))
        assert any(getattr(entry, "regions", ()) for entry in found), src
        assert all(entry.reason and "\n" not in entry.reason for entry in found if isinstance(entry, Failure))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_lists_that_are_none_are_one_error(tmp_path: Path, key: str) -> None:
    path = write_coco(tmp_path / "c", [])
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 7}))
    with pytest.raises(MediaError, match=key):
        prepared(path, tmp_path)
