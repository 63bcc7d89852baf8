"""Pictures drawn of composed scenes: how many of the asked-for attributes an oracle finds in them.

    sensorium bench drawing
    sensorium bench drawing --table placed.lance --run runs/draw --limit 200

Composes the scenes, and trains the recipes `codec-scenes`, `draw` and `draw-further`, and `describe` for who
chooses among several pictures of a text, where that was not done yet (`runs/`).
Held-out texts say of each thing its kind, colour, size and the third of the picture it is in; what was drawn
is looked at by a CNN that never saw a drawn picture (`scene_oracle`). Beside it: the same oracle on the real
pictures of these texts, on these through the codec, and on real pictures of other texts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import sensorium as sm
from composed_world.rerank import caption_logprobs
from machine import machine, write
from questions import ROOT, options, sensorium, tasks, train
from scene_oracle import ATTRIBUTES, Oracle, Seen, agreement, asked_for, batches, read_scenes, train_oracle
from sensorium.codecs.image_fsq import ImageFsq
from sensorium.data.table.table import Table
from sensorium.evals.bootstrap import bootstrap_interval
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.training.log import read_log

PARTS = {"seen combinations": "scenes-seen", "unseen combinations": "scenes-combinations"}
TEMPERATURE, SEVERAL = 0.9, 8
STAGES = ((1500, (0.4, 0, 0.6)), (3600, (0.3, 0.5, 0.2)), (2300, (0.6, 0.3, 0.1)))
"""Of recipe `draw-further`: steps, and shares of scenes of one to six things, of two or three, and of one."""
SHEET = ROOT / "docs" / "images" / "drawn.png"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=Path, default=ROOT / "runs" / "placed.lance")
    parser.add_argument("--codec", type=Path, default=ROOT / "runs" / "codec-scenes")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "draw")
    parser.add_argument("--judge", type=Path, default=ROOT / "runs" / "describe")
    parser.add_argument("--limit", type=int, default=200, help="held-out texts of each part")
    parser.add_argument("--oracle-steps", type=int, default=1200)
    arguments = parser.parse_args()
    if not arguments.table.exists():
        make = ["data", "scenes", "-o", str(arguments.table), "-n", "20000", "--held-out", "400"]
        sensorium(*make, "--things", "1-6", "--captions", "place", "--questions", "0")
    train("codec-scenes", arguments.codec, "--set", f"data.parts.scenes.table={arguments.table}")
    if not (arguments.run / "model.safetensors").exists():
        train_in_stages(arguments.table, arguments.codec, arguments.run)
    if not (arguments.judge / "model.safetensors").exists():
        train_judge(arguments.table, arguments.judge)
    table = Table.open(arguments.table)
    source = np.array(table.column("source"))
    scenes = np.flatnonzero(source == "scenes").tolist()
    oracle = known_oracle(arguments.run.with_name("scene-oracle.pt"), table, scenes, arguments.oracle_steps)
    codec, assistant = load(arguments.codec, ImageFsq), sm.load(arguments.run)
    judge = load(arguments.judge, MultimodalLM)
    rows: list[dict[str, object]] = []
    shown: list[tuple[str, np.ndarray, np.ndarray]] = []
    for part, name in PARTS.items():
        chosen = np.flatnonzero(source == name)[: arguments.limit].tolist()
        real, known = read_scenes(table, chosen)
        asked = [asked_for(things) for things in known]
        kept = np.stack([codec.decode(codec.encode(sm.media.Image(one))).pixels for one in real])
        texts = [sample.texts[0].text for sample in table.rows(chosen, columns=["texts"])]
        several = [
            [draw(assistant, text, SEVERAL * place + number) for number in range(SEVERAL)]
            for place, text in enumerate(texts)
        ]
        told = [caption_logprobs(judge, own, text) for own, text in zip(several, texts, strict=True)]
        first, drawn = (
            np.stack([own[place].pixels for own, place in zip(several, places, strict=True)])
            for places in (np.zeros(len(texts), int), [int(one.argmax()) for one in told])
        )
        for what, pictures in (
            ("drawn", first),
            (f"the best of {SEVERAL}, as a judge tells", drawn),
            ("real", real),
            ("real, through the codec", kept),
            ("real, of other texts", np.roll(real, 1, axis=0)),
        ):
            rows.append({"what": f"{what}: {part}"} | score(oracle, pictures, asked))
        shown += list(zip(texts, drawn, real, strict=True))[:6]
    sheet(shown, SHEET)
    last = [line for line in read_log(arguments.run / "log.jsonl") if "loss" in line][-1]
    num = sum(parameter.numel() for parameter in assistant.model.parameters())
    figures = {
        "claim": "Pictures drawn of composed scenes by a model of our own from random weights: attributes "
        "that an oracle finds.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "scipy", "sensorium")),
        "rows": rows,
        "notes": [
            "kind, colour, size, place (thirds): of the things asked for, those found with it; all: mean of "
            "the four, ± is half of a 95 % bootstrap interval over texts; one seed",
            "whole things: all four right; pictures: everything asked for is there, whole, and nothing else",
            f"{num / 1e6:.1f} M parameters; recipe draw, then draw-further three times, the last time "
            f"{last['step']:,} steps",
            f"temperature {TEMPERATURE}, guidance {assistant.model.decoder('image').config.guidance:g}",
            f"the best of {SEVERAL}: of so many seeds, chosen by a model of recipe describe; what the oracle "
            "finds plays no part in it",
            " ".join(["command: sensorium bench drawing", *sys.argv[1:]]),
        ],
    }
    print(json.dumps(rows, indent=1))
    print(write("drawing", figures))


def train_in_stages(table: Path, codec: Path, run: Path) -> None:
    """What the headers of the recipes say, run after run: first of single things, then of more and more."""
    two, few = scenes_beside(table)
    written = f"model.decoders.image.codec={codec}"
    before = run.with_name("draw-1")
    train("draw", before, *options(written, tasks("draw", table)))
    for number, (steps, weights) in enumerate(STAGES, start=2):
        after = run if number > len(STAGES) else run.with_name(f"draw-{number}")
        changes = [written, f"start={before}", f"train.steps={steps}"]
        train(
            "draw-further", after, *options(*changes, tasks("draw-further", table, two, few, weights=weights))
        )
        before = after


def train_judge(table: Path, run: Path) -> None:
    """From what `bench questions` trains: captions that say where things are."""
    scenes, scenes_few, questions = (
        run.with_name(name) for name in ("scenes.lance", "scenes-few.lance", "questions")
    )
    if not (questions / "model.safetensors").exists():
        raise SystemExit(f"the judge goes on from {questions}; train that first: sensorium bench questions")
    tables = (scenes, scenes_few, table, *scenes_beside(table))
    train("describe", run, *options(f"start={questions}", tasks("describe", *tables)))


def scenes_beside(table: Path) -> tuple[Path, Path]:
    """Scenes of two or three things, and of one."""
    made = []
    for name, seed, things in (("placed-two.lance", "3", "2-3"), ("placed-few.lance", "2", "1-1")):
        made.append(table.with_name(name))
        if not made[-1].exists():
            make = ["data", "scenes", "-o", str(made[-1]), "-n", "12000", "--seed", seed, "--things", things]
            sensorium(*make, "--captions", "place", "--questions", "0")
    return made[0], made[1]


def known_oracle(path: Path, table: Table, rows: list[int], steps: int) -> Oracle:
    """The oracle, trained where that was not done yet."""
    if not path.exists():
        torch.save(train_oracle(table, rows, steps).state_dict(), path)
    oracle = Oracle()
    oracle.load_state_dict(torch.load(path))
    return oracle.eval()


def draw(assistant: sm.Assistant, text: str, seed: int) -> sm.media.Image:
    """A picture, by the public way."""
    picture = assistant.generate([text], to="image", temperature=TEMPERATURE, seed=seed).image
    assert picture is not None
    return picture


def score(oracle: Oracle, pictures: np.ndarray, asked: list[list[Seen]]) -> dict[str, object]:
    """Shares of attributes and of things and pictures that are right."""
    found = [things for some in batches(pictures) for things in oracle.things(some)]
    marks = [agreement(one, seen) for one, seen in zip(asked, found, strict=True)]
    by_name = {name: [mark for one in marks for mark in one[name]] for name in ATTRIBUTES}
    whole = [[all(four) for four in zip(*one.values(), strict=True)] for one in marks]
    text_of = np.repeat(np.arange(len(asked)), [len(one) for one in asked])
    over_all = bootstrap_interval(np.mean(list(by_name.values()), axis=0), groups=text_of)
    right = [all(things) and len(seen) == len(things) for things, seen in zip(whole, found, strict=True)]
    return {
        "all": round(over_all.mean, 3),
        "± all": round((over_all.high - over_all.low) / 2, 3),
        **{name: round(float(np.mean(values)), 3) for name, values in by_name.items()},
        "whole things": round(float(np.mean([one for things in whole for one in things])), 3),
        "pictures": round(float(np.mean(right)), 3),
        "found": round(float(np.mean([len(one) for one in found])), 2),
        "asked for": round(float(np.mean([len(one) for one in asked])), 2),
    }


def sheet(shown: list[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Drawn pictures above the real ones of the same texts, which are told in full."""
    columns, side, gap, lines = 4, 192, 10, 118
    num_rows = -(-len(shown) // columns)
    canvas = Image.new("RGB", (columns * (side + gap) + gap, num_rows * (2 * side + lines)), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (text, *pictures) in enumerate(shown):
        left, top = gap + number % columns * (side + gap), number // columns * (2 * side + lines)
        for place, pixels in enumerate(pictures):
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
            canvas.paste(picture, (left, top + place * side))
        pen.multiline_text(
            (left, top + 2 * side + 3), text.replace(", ", "\n").replace(" and ", "\n"), "black"
        )
    path.parent.mkdir(exist_ok=True)
    canvas.save(path, optimize=True)


if __name__ == "__main__":
    main()
