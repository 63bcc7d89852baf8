"""Write what the COCO caption evaluation says of captions: `captioning.json` and `short_captions.json`.

Its CIDEr-D, BLEU and ROUGE-L are plain Python, its tokeniser is not: the captions are tokens already. Run in
an environment of its own: pip install --no-deps pycocoevalcap; pip install numpy; then
    python tests/parity/make_caption_references.py
"""

import json
import random
from pathlib import Path

from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge

KINDS = "frog key bell owl bus guitar snail whale".split()
COLOURS = "red blue green orange grey".split()
PLACES = ("left of the", "right of the", "above a", "below a", "beside the")


def phrase(draw: random.Random) -> str:
    words = [draw.choice(("a", "the", "one")), draw.choice(("", "small", "large")), draw.choice(COLOURS)]
    return " ".join(word for word in [*words, draw.choice(KINDS)] if word)


def caption(draw: random.Random) -> str:
    return f"{phrase(draw)} {draw.choice(PLACES)} {phrase(draw)[2:].strip()}"


def altered(text: str, draw: random.Random) -> str:
    """A caption with some words dropped, doubled or swapped: lengths and counts differ from any reference."""
    words = [word for word in text.split() for _ in range(draw.choice((0, 1, 1, 1, 1, 2)))]
    return " ".join(words) or "frog"


SHORT = [
    (["a cat"], [["a cat"]]),
    (["", "a dog runs"], [["a cat"], ["a dog runs"]]),
    ([""], [["a cat"]]),
    (["", "dog"], [[""], ["dog"]]),
    (["", "a"], [["", "a dog"], ["a dog", ""]]),
    (["cat", "dog"], [["dog"], ["dog", "a dog runs"]]),
    (["cat"], [["a red dog runs here"]]),
    (["a cat sits", "a dog runs far away", "frog"], [["a cat"], ["the dog runs far"], ["frog", "a frog"]]),
    (["a a a a a", "key"], [["a key"], ["a a"]]),
]
"""Fewer words than n-grams need, none at all, no match."""


def scores(captions: list[str], references: list[list[str]]) -> dict[str, list[float]]:
    cider, bleu = CiderScorer(n=4, sigma=6.0), BleuScorer(n=4)
    for one, several in zip(captions, references, strict=True):
        cider += (one, several)
        bleu += (one, several)
    keyed = dict(enumerate(references))
    rouge = Rouge().compute_score(keyed, {n: [one] for n, one in enumerate(captions)})[1]
    return {
        "cider": [float(value) for value in cider.compute_score()[1]],
        "rouge_l": [float(value) for value in rouge],
        "bleu": [float(value) for value in bleu.compute_score(option="closest")[0]],
    }


def main() -> None:
    draw = random.Random(5)
    references = [[caption(draw) for _ in range(draw.randint(1, 5))] for _ in range(37)]
    captions = [
        several[0] if n % 7 == 0 else caption(draw) if n % 7 == 1 else altered(draw.choice(several), draw)
        for n, several in enumerate(references)
    ]
    found = {"captions": captions, "references": references, **scores(captions, references)}
    short = [[*case, scores(*case)] for case in SHORT]
    for name, values in (("captioning.json", found), ("short_captions.json", short)):
        text = json.dumps(values, indent=0, ensure_ascii=False)
        (Path(__file__).parent / "data" / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
