"""Who writes in `generation.py`: our engine, transformers, llama.cpp, each with the same three orders.

Every one is imported in a process of its own, in the environment that has it.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

FTYPES = {"bf16": 32, "q8_0": 7, "q4_0": 2}
"""llama.cpp's numbers of formats."""
Times = tuple[float, float]
"""CPU seconds and seconds by the clock."""


def now() -> Times:
    return time.process_time(), time.perf_counter()


class Writer(Protocol):
    """What a contender must do."""

    def write(self, prompts: list[list[int]], count: int) -> tuple[list[list[int]], Times]:
        """Write `count` ids after each prompt; return them, and when the first was there."""

    def bits(self, ids: list[int]) -> float:
        """Bits that the ids after the first one take."""

    def use(self, threads: int) -> None:
        """Take so many threads from now on."""


class Ours:
    """The engine over a compiled decoder."""

    def __init__(self, kind: str, path: Path) -> None:
        from sensorium.generation import Engine, Request
        from sensorium.generation.cpu.decoder import CompiledDecoder
        from sensorium.models.pretrained.text_model import load_gguf

        model = load_gguf(path).model
        self.decoder = CompiledDecoder(model, 8, 1536, weights=kind, num_threads=2)
        self.engine, self.request = Engine(self.decoder), Request

    def use(self, threads: int) -> None:
        """Take so many threads from now on."""
        import torch

        self.decoder.num_threads = threads
        torch.set_num_threads(threads)

    def write(self, prompts: list[list[int]], count: int) -> tuple[list[list[int]], Times]:
        """Write after each prompt."""
        streams = [self.engine.submit(self.request(prompt, max_tokens=count)) for prompt in prompts]
        next(streams[-1])
        first = now()
        return [stream.result().ids for stream in streams], first

    def bits(self, ids: list[int]) -> float:
        """Bits of the ids after the first."""
        import torch

        from sensorium.generation import Feed

        [scores] = self.decoder.advance([Feed(0, 0, ids, len(ids))])
        return bits_of(scores, torch.tensor(ids))


def bits_of(scores: Any, ids: Any) -> float:
    """-log2 of the probabilities of ids[1:], by scores of every place."""
    logprobs = scores[:-1].float().log_softmax(-1)
    return float(-logprobs.gather(1, ids[1:, None]).sum()) / math.log(2)


class Transformers:
    """`generate` with its own cache."""

    def __init__(self, kind: str, path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[kind]
        self.model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype
        ).eval()

    def use(self, threads: int) -> None:
        """Take so many threads from now on."""
        import torch

        torch.set_num_threads(threads)

    def write(self, prompts: list[list[int]], count: int) -> tuple[list[list[int]], Times]:
        """Write after each prompt."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        seen: list[Times] = []

        class Clock(StoppingCriteria):
            def __call__(self, ids: Any, scores: Any, **_: object) -> Any:
                seen.append(now())
                return torch.zeros(len(ids), dtype=torch.bool)

        ids = torch.tensor(prompts)
        with torch.inference_mode():
            found = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=count,
                min_new_tokens=count,
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([Clock()]),
            )
        return found[:, ids.shape[1] :].tolist(), seen[0]

    def bits(self, ids: list[int]) -> float:
        """Bits of the ids after the first."""
        import torch

        with torch.inference_mode():
            return bits_of(self.model(torch.tensor([ids])).logits[0], torch.tensor(ids))


class LlamaCpp:
    """`llama_decode`, the greatest score taken by NumPy."""

    def __init__(self, kind: str, path: Path) -> None:
        import llama_cpp.llama_cpp as api

        self.api = api
        quiet = api.llama_log_callback(lambda *_: None)
        api.llama_log_set(quiet, None)
        self.kept = quiet
        file = path if kind == "q4_1" else requantised(api, path, kind)
        model = api.llama_model_load_from_file(str(file).encode(), api.llama_model_default_params())
        settings = api.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max = 8 * 1536, 2048, 2048, 8
        self.context = api.llama_init_from_model(model, settings)
        self.vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        self.batch = api.llama_batch_init(2048, 0, 1)

    def use(self, threads: int) -> None:
        """Take so many threads from now on."""
        self.api.llama_set_n_threads(self.context, threads, threads)

    def decode(self, tokens: Sequence[tuple[int, int, int, bool]]) -> Any:
        """Feed (id, place, sequence, whether scores are wanted); return the scores wanted."""
        import numpy as np

        batch = self.batch
        batch.n_tokens = len(tokens)
        for slot, (token, place, sequence, is_wanted) in enumerate(tokens):
            batch.token[slot], batch.pos[slot], batch.logits[slot] = token, place, is_wanted
            batch.n_seq_id[slot], batch.seq_id[slot][0] = 1, sequence
        assert self.api.llama_decode(self.context, batch) == 0
        wanted = [slot for slot, token in enumerate(tokens) if token[3]]
        return [
            np.ctypeslib.as_array(
                ctypes.cast(
                    self.api.llama_get_logits_ith(self.context, slot), ctypes.POINTER(ctypes.c_float)
                ),
                (self.vocab,),
            )
            for slot in wanted
        ]

    def write(self, prompts: list[list[int]], count: int) -> tuple[list[list[int]], Times]:
        """Write after each prompt."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        size = len(prompts[0])
        feed = [
            (token, place, number, place == size - 1)
            for number, prompt in enumerate(prompts)
            for place, token in enumerate(prompt)
        ]
        found: list[list[int]] = [[] for _ in prompts]
        first: Times = (0.0, 0.0)
        for step in range(count):
            for row, scores in zip(found, self.decode(feed), strict=True):
                row.append(int(scores.argmax()))
            first = now() if step == 0 else first
            feed = [(row[-1], size + step, number, True) for number, row in enumerate(found)]
        return found, first

    def bits(self, ids: list[int]) -> float:
        """Bits of the ids after the first."""
        import numpy as np

        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        rows = self.decode([(token, place, 0, True) for place, token in enumerate(ids)])
        total = 0.0
        for scores, wanted in zip(rows, ids[1:], strict=False):
            top = float(scores.max())
            total += (
                top + math.log(float(np.exp(scores.astype(np.float64) - top).sum())) - float(scores[wanted])
            )
        return total / math.log(2)


def requantised(api: Any, path: Path, kind: str) -> Path:
    """The file in another format, made by llama.cpp itself and kept beside the tables of the user's cache."""
    target = Path(os.environ["BENCHMARK_CACHE"]) / f"{path.stem}.{kind}.gguf"
    if not target.is_file():
        settings = api.llama_model_quantize_default_params()
        settings.ftype, settings.allow_requantize, settings.nthread = FTYPES[kind], True, 2
        part = target.with_suffix(".part")
        assert api.llama_model_quantize(str(path).encode(), str(part).encode(), ctypes.byref(settings)) == 0
        part.replace(target)
    return target


FAMILIES: dict[str, Callable[[str, Path], Writer]] = {
    "sensorium": Ours,
    "transformers": Transformers,
    "llama.cpp": LlamaCpp,
}
