"""Figures for people: `results/*.json` in, `docs/figures.md` out, one section for each claim.

    python benchmarks/render.py            # write the page
    python benchmarks/render.py --check    # exit 1 if the page is not what results say, or a law is broken

A comparison in time is refused if the machine was loaded (load above cores) or if it has fewer than seven
rounds. Any result that is older than the code it measures is marked; the hash in the result tells.

A result of the form {"claim", "date", "machine", "rows": [{"what", ...}], "notes"} becomes a table of its
rows; others have a function here that knows their contenders and says how each was configured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from machine import MIN_ROUNDS, RESULTS, code_hash

PAGE = RESULTS.parents[1] / "docs" / "figures.md"
HEAD = """# Figures

Every claim beside its peers, as measured. Contenders are compared for equal results first; then they take
turns in one run, in rotated order, for seven rounds or more, on a machine whose load is at most its cores.
What counts are the **ratios** within a round: median, in brackets least and greatest. Equal precision,
threads and work stand first, other modes in rows of their own. A result that is older than the code it
measures says so. DecoderOutput by `benchmarks/render.py` from `benchmarks/results`; `sensorium bench NAME`
measures again.
"""
TIMED = (
    *(
        "dtw",
        "generation",
        "generative_loss",
        "help_time",
        "image_decode",
        "loss",
        "search",
        "shots",
        "soft_dtw",
    ),
    *("table_reads", "towers", "transcription"),
)
"""Results that compare times: the laws of load and rounds hold for them."""
Figures = dict[str, Any]


def broken_laws(name: str, found: Figures) -> list[str]:
    """Why a comparison in time may not be shown; empty if it may."""
    if name not in TIMED:
        return []
    here, rounds = found["machine"], found.get("rounds", 0)
    broken = []
    if here["load_average"] > here["cores"]:
        broken.append(f"{name}.json: taken at load {here['load_average']} on {here['cores']} cores")
    if rounds < MIN_ROUNDS:
        broken.append(f"{name}.json: {rounds} rounds; at least {MIN_ROUNDS} are wanted")
    return broken


def age(name: str, found: Figures) -> list[str]:
    """A mark, if the code that a result measures has changed since."""
    if found.get("code_sha256") == code_hash(name):
        return []
    return ["**Older than the code that it measures**: to be measured again."]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: object) -> str:
    """At most three places, thousands apart: 4.918, 25,086; intervals as [0.41, 0.52]."""
    if isinstance(value, list):
        return f"[{', '.join(number(one) for one in value)}]"
    if isinstance(value, float):
        if value and abs(value) < 0.001:
            return f"{value:.1e}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def short(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: dict[str, float]) -> str:
    return f"{short(values['median'])} ({short(values['min'])} to {short(values['max'])})"


def milliseconds(values: dict[str, float]) -> list[str]:
    return [short(values["median"]), short(values["min"])]


def machine_line(here: Figures) -> str:
    """CPU, cores, load and versions in one line; whatever of them is known."""
    cpu = " ".join(str(here[key]) for key in ("gpu", "cpu") if key in here)
    parts = [
        f"{cpu}, {here['cores']} cores" if "cores" in here else cpu,
        ", ".join(here.get("cpu_flags", [])),
    ]
    parts += [f"load {here['load_average']}" if "load_average" in here else "", here.get("system", "")]
    parts += [f"Python {here['python']}" if "python" in here else ""]
    parts += [f"{name} {release}" for name, release in here.get("packages", {}).items()]
    parts += [str(here.get("date", ""))]
    return "; ".join(part for part in parts if part)


def loss(found: Figures) -> list[str]:
    peers = "plain: `cross_entropy` or `logsigmoid` of the whole matrix; open_clip: its `ClipLoss` (doubled, "
    peers += (
        "for it halves) and `SigLipLoss`, with their defaults; sensorium: `losses.info_nce` and `sigmoid`."
    )
    parts = [
        f"Value and gradients of B float32 pairs of width {found['width']}, {found['threads']} threads, each "
        "in a fresh process. Extra memory: peak less what was resident before, the gradients included.",
        peers,
    ]
    for family in ("info_nce", "sigmoid"):
        rows = [
            [f"{int(batch):,}", name, short(one["extra_mib"]["median"]), spread(one["wall_vs_plain"])]
            for batch, names in found[family]["batches"].items()
            for name, one in names.items()
        ]
        parts.append(table(["B", family, "extra MiB", "time over plain"], rows))
        errors = [f"{name} {error:.0e}" for name, error in found[family]["relative_error"].items()]
        parts.append(f"Greatest relative difference from plain, value and gradients: {', '.join(errors)}.")
    return parts


def search(found: Figures) -> list[str]:
    releases = sorted({str(size["faiss"]) for size in found["sizes"].values()})
    parts = [
        f"Top {found['k']} of one query among n unit vectors of width {found['width']}; one thread each "
        "where "
        f"not said, {found['rounds']} rounds.",
        "numpy: `vectors @ query`, then `argpartition`. faiss "
        f"({', '.join(releases)}): `index_factory` `Flat`, `SQ8` and `SQ8,RFlat`, inner product, in a "
        "process of its "
        "own; it uses a second thread only for a second query. "
        "sensorium: `ExactIndex`; what bf16 and int8 cannot rule out is scored again, so it stays exact. "
        "lance: its indexes through `data.ann`. Recall is against the NumPy scan.",
    ]
    rows = [
        [f"{int(size):,}", name, f"{one['recall']:.3f}", *milliseconds(one["ms"]), spread(one["vs_numpy"])]
        for size, figures in found["sizes"].items()
        for name, one in figures["contenders"].items()
    ]
    head = ["n", "search", "recall@10", "median ms", "least ms", "time over numpy"]
    builds = [
        f"{kind} of {int(size):,} in {seconds:.0f} s"
        for size, figures in found["sizes"].items()
        for kind, seconds in figures["ann_build_s"].items()
    ]
    return [*parts, table(head, rows), *([f"Built: {'; '.join(builds)}."] if builds else [])]


def towers(found: Figures) -> list[str]:
    rows = [
        [
            name,
            backend,
            short(one["samples_per_s"]),
            spread(one["speed_over_eager"]),
            f"{one['relative_error']:.1e}",
            "yes" if one["within_bound"] else "no",
        ]
        for name, backends in found["towers"].items()
        for backend, one in backends.items()
    ]
    head = ["tower", "backend", "samples/s", "speed over eager", "relative error", "may be chosen"]
    bound = (
        f"A backend whose output differs from eager fp32 by more than {found['max_error']} is never chosen."
    )
    return [
        "CPU time of one thread. eager: PyTorch fp32; bf16: a bfloat16 copy, images channels-last; onnx: "
        "ONNX Runtime "
        "fp32; compiled: `torch.compile`; channels-last: fp32, images in that layout. The product chooses "
        "among eager, "
        f"bf16 and onnx. {bound}",
        table(head, rows),
    ]


def image_decode(found: Figures) -> list[str]:
    rows = [
        [
            what,
            name,
            spread(one["cpu_ms"]),
            spread(one["over ours"]),
            number(found["difference_of_255"][name]["max"]),
            number(found["difference_of_255"][name]["mean"]),
        ]
        for what in ("decode and resize", "decode")
        for name, one in found[what].items()
    ]
    return [
        f"{found['what']}; CPU time of one thread, {found['rounds']} rounds. sensorium: "
        "`open(target_px=224)`; Pillow, "
        "draft: libjpeg's reduced scale, at least twice the target as ours, or at least the target; "
        "Pillow, whole: all pixels. libjpeg-turbo "
        f"{found['libjpeg_turbo']}. Difference: of the resized picture from the whole one's, of 255.",
        table(["", "", "CPU ms", "over ours", "greatest difference", "mean difference"], rows),
    ]


def table_reads(found: Figures) -> list[str]:
    parts = [
        f"{found['rows']:,} rows of {found['blob_bytes']:,} random bytes, {found['rounds']} rounds. On "
        "disk the table "
        f"takes {found['bytes_on_disk_over_bytes_of_media']} of the media's bytes. Cold: the page cache of "
        "the files was "
        "dropped before each turn; else it is warm."
    ]
    titles = {
        "blobs_per_s": "blobs",
        "blobs_per_s_cold": "blobs, cold",
        "feature_vectors_per_s": "feature vectors",
    }
    for key, title in titles.items():
        rows = [
            [name, spread(one["per second"]), spread(one["ours over it"])] for name, one in found[key].items()
        ]
        parts.append(table([title, "per second", "ours over it"], rows))
    rows = [
        [
            name,
            number(found["beside_or_inside"][name]["bytes"]),
            short(found["beside_or_inside"][name]["seconds"]),
        ]
        for name in ("beside", "inside")
    ]
    return [*parts, table(["512 vectors written beside or inside the rows", "bytes", "seconds"], rows)]


def help_time(found: Figures) -> list[str]:
    rows = [[f"`{command}`", spread(one)] for command, one in found["ms"].items()]
    return [
        f"{found['rounds']} rounds, each a new process; the bound is {found['budget_ms']} ms.",
        table(["command", "ms"], rows),
    ]


def next_id_loss(found: Figures) -> list[str]:
    """Memory and time of the loss over a vocabulary, beside its plain form."""
    rows = [
        [places, name, spread(one["extra_mib"]), spread(one["cpu_s"]), spread(one["over plain"])]
        for places in found
        if places.isdigit()
        for name, one in found[places].items()
    ]
    return [
        f"Width {found['width']}, {found['ids']:,} ids, {found['rounds']} rounds; value and gradients differ "
        f"from the plain form's by {number(found['relative_error'])} (relative). Frozen: the output matrix "
        "takes no gradient.",
        table(["places", "", "extra MiB", "CPU seconds", "time over plain"], rows),
    ]


def claim(found: Figures) -> list[str]:
    """Any result that is a list of rows, and the evaluations on the way where it has a curve."""
    parts = [found["claim"], by_key(found["rows"], "what")]
    if found.get("curve"):
        parts += ["On the way, first seed:", by_key(found["curve"], "step")]
    return [*parts, *(f"- {note}" for note in found.get("notes", []))]


def by_key(records: Sequence[Figures], first: str) -> str:
    """A table of records; what is under `first` heads each line."""
    keys = list(dict.fromkeys(key for record in records for key in record if key != first))
    rows = [
        [str(record.get(first, "")), *(number(record.get(key, "")) for key in keys)] for record in records
    ]
    return table(["" if first == "what" else first, *keys], rows)


SECTIONS: dict[str, tuple[str, Callable[[Figures], list[str]]]] = {
    "stamps": ("Held-out stamps", claim),
    "emoji_scratch": ("Emoji from random weights", claim),
    "dtw": ("Time warping", claim),
    "soft_dtw": ("Soft-DTW", claim),
    "speech_alignment": ("Words to speech", claim),
    "transcription": ("Transcription", claim),
    "grounding": ("Phrases to regions", claim),
    "questions": ("Questions about scenes", claim),
    "codecs": ("Codecs", claim),
    "fusion": ("Fusion", claim),
    "shots": ("Shots", claim),
    "summary": ("Video summaries", claim),
    "generation": ("Writing", claim),
    "loss": ("Memory and time of the losses", loss),
    "generative_loss": ("Memory and time of the loss over a vocabulary", next_id_loss),
    "search": ("Search", search),
    "towers": ("Locked towers by backend", towers),
    "image_decode": ("Image decode", image_decode),
    "table_reads": ("Reading a media table", table_reads),
    "help_time": ("Time until --help answers", help_time),
    "quickstart": ("Quickstart", claim),
}
CAVEATS = {
    "captions": (
        "The writer adds little to what comes to mind: read the rows `model` and `came to mind alone` "
        "together."
    ),
    "codecs": (
        "Words wrong are those of a recogniser in eight bits with fallback to higher temperatures, on "
        "40 recordings: differences below .09 mean nothing."
    ),
    "emoji_scratch": (
        "The recipe was improved while this vendor's drawings were looked at: an unseen sixth vendor "
        "would be the fair test. One seed."
    ),
    "fusion": (
        "The best fusion of a column was chosen by that column: to compare fairly, choose a row first."
    ),
    "grounding": (
        "The fair baseline is `any thing that stands out`: random boxes are seldom on a thing at all."
    ),
    "speech": (
        "Not a comparison of recognisers: `listen` learned sentences of these families, this "
        "synthesiser and a lexicon of their words; Whisper met all of them unprepared, and tiny.en is "
        "its smallest model."
    ),
    "speech_alignment": (
        "Voices and truth come from the synthesiser that the aligner itself uses: people are harder."
    ),
    "stamps": "A small collection: chance stands beside each figure.",
    "summary": (
        "Highlights are composed of novelty, motion and loudness, which are the scorer's own signals: "
        "this shows that they are found, not that people would choose the same."
    ),
    "translation": "Most differences from the glossary are of the size of their intervals.",
}
"""What a fair reader has to know beside a result."""


def page() -> str:
    """The whole page; results without a section of their own come last, by name."""
    results = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    known = [name for name in SECTIONS if name in results]
    parts = [HEAD.strip()]
    for name in [*known, *sorted(results.keys() - SECTIONS.keys())]:
        title, show = SECTIONS.get(name, (name.replace("_", " ").capitalize(), claim))
        here = {"date": results[name].get("date", ""), **results[name]["machine"]}
        caveat = [CAVEATS[name]] if name in CAVEATS else []
        parts += [f"## {title}", *age(name, results[name]), *caveat, *show(results[name])]
        parts += [f"`{name}.json`: {machine_line(here)}."]
    missing = [f"`{name}`" for name in SECTIONS if name not in results]
    return (
        "\n\n".join([*parts, *([f"Not measured here yet: {', '.join(missing)}."] if missing else [])]) + "\n"
    )


def main() -> None:
    results = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    broken = [line for name in sorted(results) for line in broken_laws(name, results[name])]
    if broken:
        sys.exit("\n".join(["comparisons in time that have to be measured again:", *broken]))
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted)
        print(PAGE)
    elif not PAGE.is_file() or PAGE.read_text() != wanted:
        sys.exit("docs/figures.md is not what benchmarks/results says; run: python benchmarks/render.py")


if __name__ == "__main__":
    main()
