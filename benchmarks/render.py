"""Figures for people: `results/*.json` in, `docs/figures.md` out, one section for each claim.

    python benchmarks/render.py            # write the page
    python benchmarks/render.py --check    # exit 1 if the page is not what the results say

A result of the form {"claim", "date", "machine", "rows": [{"what", ...}], "notes"} becomes a table of its
rows; others have a function here that knows their contenders and says how each was configured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from machine import RESULTS

PAGE = RESULTS.parents[1] / "docs" / "figures.md"
HEAD = """# Figures

Every claim beside its peers, as measured: contenders take turns in one run and are compared for equal results
first, and what counts are the **ratios** of a round, which a busy machine changes little; the times belong to
the machine and its load. In brackets: least and greatest. Written by `benchmarks/render.py` from
`benchmarks/results`; `sensorium bench NAME` measures again.
"""
Figures = dict[str, Any]


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
        f"Top {found['k']} of one query among n unit vectors of width {found['width']}; two threads each.",
        "numpy: `vectors @ query`, then `argpartition`. faiss "
        f"({', '.join(releases)}): `index_factory` `Flat` and `SQ8`, inner product, in a process of its own. "
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
        f"eager: PyTorch fp32; bf16: a bfloat16 copy, images channels-last; onnx: ONNX Runtime fp32. {bound}",
        table(head, rows),
    ]


def image_decode(found: Figures) -> list[str]:
    rows = [
        [key.replace("_", " "), spread(one["plain_ms"]), spread(one["ours_ms"]), spread(one["plain/ours"])]
        for key, one in ((key, found[key]) for key in ("decode_and_resize", "decode"))
    ]
    most = found["difference_of_255"]
    return [
        f"{found['what']}; CPU time, {found['pairs']} pairs of runs. plain: Pillow decodes it whole; "
        "ours: `open(target_px=224)`, decoded at reduced scale. libjpeg-turbo "
        f"{found['libjpeg_turbo']}.",
        table(["", "plain ms", "ours ms", "plain over ours"], rows),
        f"The pictures differ by {most['max']} of 255 at most, {most['mean']} on average.",
    ]


def table_reads(found: Figures) -> list[str]:
    parts = [
        f"{found['rows']:,} rows of {found['blob_bytes']:,} random bytes, warm page cache, "
        f"{found['rounds']} rounds. On disk the table takes {found['bytes_on_disk_over_bytes_of_media']} of "
        "the media's bytes. Ratio: ours over the last contender."
    ]
    for key in ("blobs_per_s", "feature_vectors_per_s"):
        rates = dict(found[key])
        ratio = spread(rates.pop("ours over last"))
        rows = [[name, spread(one)] for name, one in rates.items()] + [["ours over last", ratio]]
        parts.append(table([key.replace("_per_s", "").replace("_", " "), "per second"], rows))
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
        [places, name, spread(one["extra_mib"]), spread(one["cpu_s"])]
        for places in found
        if places.isdigit()
        for name, one in found[places].items()
    ]
    return [
        f"Width {found['width']}, {found['ids']:,} ids, {found['rounds']} rounds; value and gradients differ "
        f"from the plain form's by {number(found['relative_error'])} (relative). Frozen: the output matrix "
        "takes no gradient.",
        table(["places", "", "extra MiB", "CPU seconds"], rows),
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
    "summary": ("Video summaries", claim),
    "generation": ("Writing", claim),
    "loss": ("Memory and time of the losses", loss),
    "generative_loss": ("Memory and time of the loss over a vocabulary", next_id_loss),
    "search": ("Search", search),
    "towers": ("Locked towers by backend", towers),
    "image_decode": ("Image decode", image_decode),
    "table_reads": ("Reading a media table", table_reads),
    "help_time": ("Time until --help answers", help_time),
}


def page() -> str:
    """The whole page; results without a section of their own come last, by name."""
    results = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    known = [name for name in SECTIONS if name in results]
    parts = [HEAD.strip()]
    for name in [*known, *sorted(results.keys() - SECTIONS.keys())]:
        title, show = SECTIONS.get(name, (name.replace("_", " ").capitalize(), claim))
        here = {"date": results[name].get("date", ""), **results[name]["machine"]}
        parts += [f"## {title}", *show(results[name]), f"`{name}.json`: {machine_line(here)}."]
    missing = [f"`{name}`" for name in SECTIONS if name not in results]
    return (
        "\n\n".join([*parts, *([f"Not measured here yet: {', '.join(missing)}."] if missing else [])]) + "\n"
    )


def main() -> None:
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted)
        print(PAGE)
    elif not PAGE.is_file() or PAGE.read_text() != wanted:
        sys.exit("docs/figures.md is not what benchmarks/results says; run: python benchmarks/render.py")


if __name__ == "__main__":
    main()
