"""Speech comes while it is written, and texts of any length are cut so that each part is read whole."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sensorium.align.text_lines import passages
from sensorium.assistants.assistant import Generation, write_config
from sensorium.assistants.load import load_assistant
from sensorium.assistants.synthesize import Speech
from sensorium.core.errors import UsageError
from sensorium.generation import Completion, Piece
from sensorium.generation.request import Choice
from tiny_assistants import audio_codec, write_run


class DecoderOutput:
    """Stands in for the engine: ids that are ready, one a step."""

    def __init__(self, ids: list[int]) -> None:
        self.choices = [Choice(one, -1.0) for one in ids]
        self.num_taken = 0

    def __iter__(self) -> "DecoderOutput":
        return self

    def __next__(self) -> Piece:
        if self.num_taken == len(self.choices):
            raise StopIteration
        self.num_taken += 1
        return Piece((self.choices[self.num_taken - 1],))

    def cancel(self) -> None:
        self.choices = self.choices[: self.num_taken]

    def result(self) -> Completion:
        self.num_taken = len(self.choices)
        return Completion(tuple(self.choices), "", "stop", 1)


def test_the_first_sound_comes_before_the_last_code() -> None:
    codec, ids = audio_codec(), np.random.default_rng(1).integers(0, 9, 113).tolist()
    written = DecoderOutput(ids)
    answer = Generation(written, codec)
    sounds = answer.sounds()
    first = next(sounds)
    assert (first.duration_s, written.num_taken) == (0.5, 25 + codec.lookahead)
    samples = np.concatenate([one.samples for one in (first, *sounds)])
    assert samples == pytest.approx(codec.decode(ids).samples, abs=1e-5)
    assert samples == pytest.approx(answer.audio.samples, abs=1e-5)
    assert (answer.ids, answer.text, answer.image) == (ids, "", None)


def test_long_sentences_are_cut_so_that_the_model_reads_them_whole(tmp_path: Path) -> None:
    assistant = load_assistant(write_run(tmp_path / "run", {"speak": ["en"]}, ["audio"]))
    most = assistant.model.source("text").input.max_tokens
    text = "a big blue frog and the sun " * 8
    assert not assistant.fits(text, "audio")
    parts = list(passages(text, lambda part: assistant.fits(part, "audio")))
    assert " ".join(parts) == text.strip()
    assert all(assistant.fits(part, "audio") for part in parts)
    assert not any(assistant.fits(f"{a} {b.split()[0]}", "audio") for a, b in pairwise(parts))
    speech = Speech(assistant, text, write_config(7, 0.0))
    assert speech.audio().duration_s == pytest.approx(speech.num_ids / 50 + 0.15 * (len(parts) - 1), abs=1e-3)
    with pytest.raises(UsageError, match="is longer than the model reads"):
        Speech(assistant, "x" * 20 * most, write_config(7, 0.0))
    with pytest.raises(UsageError, match="nothing to say"):
        Speech(assistant, "\n \n", write_config(7, 0.0))
