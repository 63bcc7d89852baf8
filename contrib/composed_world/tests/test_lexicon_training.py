"""Models with a lexicon: they learn sounds, and are measured in words."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from small_tasks import recipe_values, task, task_sample, task_table

from composed_world import lexicon_extension
from composed_world.lexicon import Lexicon
from composed_world.lexicon_extension import learn_lexicon
from composed_world.pronunciation import unbroken
from sensorium.assistants.assistant import Turn, WriteConfig
from sensorium.assistants.load import load_assistant
from sensorium.core.errors import ConfigError, UsageError
from sensorium.data.table.sample import Caption
from sensorium.data.table.table import Table
from sensorium.losses import IGNORED
from sensorium.media.types import Audio
from sensorium.models.checkpoint import save
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.processor import transform_prompt
from sensorium.training.generative.batches import Collator, TaskData
from sensorium.training.generative.build import build_multimodal
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_task
from sensorium.training.generative.text_metrics import write_answers

LEXICON = Lexicon.learned([("A red square.", "a# rEd skwe@"), ("Is it blue?", "Iz It blu:")])


def values(folder: Path, name: str) -> dict:
    found = recipe_values([task(folder / "t.lance", name)])
    found["data"]["vocab_size"] = 260
    found["model"]["extensions"] = {"lexicon": {"entries": LEXICON.to_json()}}
    return found


def prepared(folder: Path, name: str) -> tuple[MultimodalLM, TaskData]:
    task_table(folder / "t.lance")
    recipe = GenerativeRecipe.model_validate(values(folder, name))
    data = open_task(recipe.data.tasks[0], 0)
    return build_multimodal(recipe, [data])[0].eval(), data


def test_speech_is_written_down_in_sounds_and_answered_in_words(tmp_path: Path) -> None:
    model, data = prepared(tmp_path, "transcribe")
    row = int(data.train[0])
    (sample,) = data.read([row])
    lesson, (asked,) = Collator(model).batch(data, [row], [data.examples(sample)])
    assert lesson is not None
    targets = lesson.sequences.targets[0]
    learned = targets[targets != IGNORED].tolist()
    assert learned == model.decoder("text").answer_ids(unbroken(str(sample.meta["sounds"])))
    assert asked.answer == sample.texts[0].text
    known = {word for phrase in LEXICON.readings for word in phrase.split()}
    written = [one.text for one in write_answers(model, data, data.train[:5])]
    assert {word.lower().strip(".?") for text in written for word in text.split()} <= known


def test_what_is_spoken_is_read_in_sounds(tmp_path: Path) -> None:
    model, data = prepared(tmp_path, "transcribe")
    speaking = replace(data, config=data.config.model_copy(update={"task": "speak"}))
    row = int(data.train[0])
    (sample,) = data.read([row])
    collator = Collator(model)
    (one,) = [one for one in speaking.examples(sample) if one.answer]
    assert collator._transformed(speaking, one).instruction == unbroken(str(sample.meta["sounds"]))
    assert transform_prompt(model, "audio", "A square, blue!") == "a#skwe@ blu:"
    assert transform_prompt(model, "text", "A square, blue!") == "A square, blue!"


def test_a_table_without_sounds_is_refused(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance")
    rows = [("squares", 0), ("squares-test", 1)]
    table.add(replace(task_sample(n, source, seed), meta={}) for source, seed in rows for n in range(1, 9))
    recipe = GenerativeRecipe.model_validate(values(tmp_path, "transcribe"))
    data = open_task(recipe.data.tasks[0], 0)
    model, _ = build_multimodal(recipe, [data])
    (sample,) = data.read(data.train[:1])
    with pytest.raises(ConfigError, match=r"t\.lance has no phonemes.*sensorium data spoken"):
        Collator(model).batch(data, [0], [data.examples(sample)])


def test_a_lexicon_is_learned_from_training_rows_and_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data = prepared(tmp_path, "transcribe")
    zebra = task_sample(1, "squares-test", seed=2)
    data.table.add([replace(zebra, texts=[Caption("en", "a zebra")], meta={"sounds": "a# zi:br@"})])
    data = open_task(data.config, 0)
    monkeypatch.setattr(lexicon_extension, "words", lambda progress: ["red", "frogs"])
    monkeypatch.setattr(lexicon_extension.espeak, "phonemes", lambda word, variety: f"{variety}/{word}")
    found = learn_lexicon([data])
    assert found.readings["frogs"] == {"en-us/frogs": 1}
    assert "en-us/red" in found.readings["red"]
    assert found.readings["square"]["skwe@"] >= len(data.train) // 2
    held_out = [sample.texts[0].text for sample in data.read(data.test["squares-test"])]
    assert "a zebra" in held_out
    assert "zebra" not in found.readings
    trained = {sample.texts[0].text for sample in data.read(data.train)}
    follows = json.loads(found.to_json())["pairs"]
    assert sum(follows["<s>"].values()) == len(trained)  # each text once


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("caption", 260, "leave out task 'caption'"), ("transcribe", 300, "data.vocab_size = 260")],
)
def test_what_does_not_go_with_a_lexicon_is_refused(
    tmp_path: Path, name: str, size: int, message: str
) -> None:
    wrong = values(tmp_path, name)
    wrong["data"]["vocab_size"] = size
    with pytest.raises(ValidationError, match=message):
        GenerativeRecipe.model_validate(wrong)


def test_as_an_assistant_it_answers_in_words_of_the_lexicon(tmp_path: Path) -> None:
    model, _ = prepared(tmp_path, "transcribe")
    save(model, tmp_path / "run")
    assistant = load_assistant(tmp_path / "run")
    sound = Audio(np.random.default_rng(1).normal(0, 0.1, (8_000, 1)).astype(np.float32), 16_000)
    answer = assistant.generate([sound], max_tokens=20)
    known = {word for phrase in LEXICON.readings for word in phrase.split()}
    assert {word.lower().strip(".?") for word in answer.text.split()} <= known
    assert len(answer.ids) <= 20
    streamed = "".join(assistant.generate([sound], max_tokens=20, stream=True))
    assert streamed == answer.text
    with pytest.raises(UsageError, match="decodes its text at the end"):
        assistant.reply([Turn("user", (sound,))], WriteConfig(stops=("x",)))
