"""Captions of held-out stamps, beside those of the nearest training stamps of a joint embedding.

    sensorium bench captions
    sensorium bench captions --seeds 1

For each seed, which also says what is held out, trains recipe `captions` and, on the same rows, the joint
embedding of recipe `pictures`, where that was not done yet (`runs/`). The writer is measured with what its
pictures bring to mind, without it, and following that alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from composed_world.knn_captions import _told
from machine import machine, write
from sensorium.core.config import parse, read_toml
from sensorium.encoders import ENCODERS
from sensorium.evals.bootstrap import bootstrap_interval
from sensorium.evals.captioning import cider_d, nearest_captions, rouge_l
from sensorium.models.checkpoint import load
from sensorium.models.embed import embed_rows
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.training.evaluate import held_out
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_task
from sensorium.training.generative.text_metrics import write_answers
from sensorium.training.log import read_log

ROOT = Path(__file__).parents[1]
MODEL, NEAREST = "model", "caption nearest to the picture, joint embedding"
NEAREST_PICTURE = "caption of the nearest picture, joint embedding"
NEAREST_OF_ALL = "caption or ImageNet name nearest to the picture, joint embedding"
_ALONE = 0.9999
CHANGES = ("data.table=stamps", 'data.languages=["text:en"]', "train.eval_every=0")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    captions: dict[str, list[str]] = {}
    references: list[str] = []
    rows: list[int] = []
    scores: dict[str, list[np.ndarray]] = {}
    for seed in range(arguments.seeds):
        run, nearest = (ROOT / "runs" / f"{name}-{seed}" for name in ("captions", "stamps-pictures"))
        train(run, "captions", [f"seed={seed}", "train.eval_every=0"])
        train(nearest, "pictures", [f"seed={seed}", *CHANGES])
        own = {**written(run), **told_of_neighbours(nearest, names_of(run))}
        expected = {row: text for row, (text, _) in own[MODEL].items()}
        for who, found in own.items():
            if {row: text for row, (text, _) in found.items()} != expected:
                raise SystemExit(f"{who} was measured on other stamps than the model, at seed {seed}")
            texts = [found[row][1] for row in expected]
            captions.setdefault(who, []).extend(texts)
            scores.setdefault(who, []).append(cider_d(texts, [[one] for one in expected.values()]))
        references += expected.values()
        rows += expected
    last = [line for line in read_log(run / "log.jsonl") if "loss" in line][-1]
    figures = {
        "claim": "Captions of stamps whose captions no training stamp has: CIDEr-D.",
        "date": machine()["date"],
        "machine": machine(("torch", "numpy", "sensorium")),
        "rows": list(table(captions, scores, references, np.array(rows))),
        "notes": [
            f"{arguments.seeds} seeds, each holds out a fifth of the stamps; one reference each, their IDF",
            "brackets: 95 % bootstrap intervals over stamps; over ...: of the difference, in pairs",
            "the model's pool holds training captions and ImageNet's names; so does that of the last row",
            "constants of the pool were chosen on other splits of the same stamps",
            f"model: recipe captions, {last['step']:,} steps; stamps and ImageNet's classes come to mind",
            "came to mind alone: the writer has no say; writer alone: nothing comes to mind",
            "joint embedding: recipe pictures, trained on the same stamps",
            " ".join(["command: sensorium bench captions", *sys.argv[1:]]),
        ],
    }
    print(write("captions", figures))


def train(run: Path, recipe: str, changes: Sequence[str]) -> None:
    """Train where there is no model yet, or go on."""
    if not (run / "model.safetensors").exists():
        resume = ["--resume"] if (run / "last").exists() else []
        more = [word for change in changes for word in ("--set", change)]
        words = [sys.executable, "-m", "sensorium", "train", recipe, "-o", str(run), *resume, *more]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def written(run: Path) -> dict[str, dict[int, tuple[str, str]]]:
    """By who wrote, for each row: what is told of it, and what was written."""
    recipe = parse(GenerativeRecipe, read_toml(run / "recipe.toml"), "recipe.toml")
    data = open_task(recipe.data.tasks[0], recipe.seed)
    model = load(run, MultimodalLM)
    (rows,) = data.test.values()
    known = model.extensions["knn_captions"]
    found = {}
    for who, share in ((MODEL, known.config.share), ("came to mind alone", _ALONE), ("writer alone", 0.0)):
        known.config = known.config.model_copy(update={"share": share})
        model.extensions = nn.ModuleDict({"knn_captions": known} if share else {})
        answers = write_answers(model, data, rows)
        found[who] = {one.row: (str(one.example.answer), one.text) for one in answers}
    trained = [str(one.answer) for sample in data.read(data.train) for one in data.examples(sample)]
    commonest = Counter(trained).most_common(1)[0][0]
    found["commonest caption"] = {row: (text, commonest) for row, (text, _) in found[MODEL].items()}
    return found


def names_of(run: Path) -> list[str]:
    """ImageNet's names in the words of a caption, as they come to the model's mind."""
    known = load(run, MultimodalLM).extensions["knn_captions"]
    classes = ENCODERS.build("efficientnet-lite0").class_names
    return [_told(known.config.names, name.split(", ")[0]) for name in classes]


def told_of_neighbours(run: Path, names: list[str]) -> dict[str, dict[int, tuple[str, str]]]:
    """The caption of the nearest training picture, the nearest caption, the nearest caption or name."""
    model, held = load(run, JointEmbedding), held_out(run, None)
    rows = np.setdiff1d(held.table.rows_with("image"), held.rows)
    images, shown = (embed_rows(held.table, model, "image", one) for one in (rows, held.rows))
    texts = embed_rows(held.table, model, "text", rows, languages=["en"])
    told = [
        next((one.text for one in several if one.language == "en"), "")
        for several in held.table.column("texts")
    ]
    found = {}
    captions = [told[place] for place in texts.rows]
    both = np.concatenate([texts.vectors, model.embed(names)])
    for who, vectors, told_by in (
        (NEAREST_PICTURE, images.vectors, [told[place] for place in images.rows]),
        (NEAREST, texts.vectors, captions),
        (NEAREST_OF_ALL, both, [*captions, *names]),
    ):
        nearest = nearest_captions(shown.vectors, vectors, told_by)
        places = [int(place) for place in shown.rows]
        found[who] = {place: (told[place], one) for place, one in zip(places, nearest, strict=True)}
    return found


def table(
    captions: dict[str, list[str]],
    scores: dict[str, list[np.ndarray]],
    references: list[str],
    rows: np.ndarray,
) -> Iterator[dict[str, object]]:
    known = [[one] for one in references]
    rivals = {
        "over the nearest caption": np.concatenate(scores[NEAREST]),
        "over the nearest picture": np.concatenate(scores[NEAREST_PICTURE]),
    }
    for who, several in scores.items():
        own = np.concatenate(several)
        value = bootstrap_interval(own, groups=rows)
        over = {name: bootstrap_interval(own - one, groups=rows) for name, one in rivals.items()}
        yield {
            "what": who,
            "CIDEr-D": round(value.mean, 3),
            "95 %": [round(value.low, 3), round(value.high, 3)],
            **{name: [round(one.low, 3), round(one.high, 3)] for name, one in over.items()},
            "seeds": [round(float(one.mean()), 3) for one in several],
            "ROUGE-L": round(float(rouge_l(captions[who], known).mean()), 3),
            "stamps": len(own),
        }


if __name__ == "__main__":
    main()
