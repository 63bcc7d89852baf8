"""Phrase tables: they draft translations, in training and in use."""

from pathlib import Path

import pytest
from small_tasks import recipe_values, task, task_table

from composed_world.phrase_table import PhraseTable
from sensorium.assistants.multimodal_assistant import MultimodalAssistant
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table
from sensorium.models.checkpoint import load, save
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.training.generative.batches import Collator, TaskData
from sensorium.training.generative.build import build_multimodal, learn_extensions
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_task
from sensorium.training.generative.text_metrics import written_measures

DRAFTS = ["phrase_table"]


def drafting(tasks: list[dict]) -> dict:
    values = recipe_values(tasks)
    values["model"]["extensions"] = {"phrase_table": {}}
    return values


def prepared(values: dict) -> tuple[MultimodalLM, list[TaskData]]:
    recipe = GenerativeRecipe.model_validate(values)
    tasks = [open_task(one, recipe.seed) for one in recipe.data.tasks]
    model, _ = build_multimodal(recipe, tasks)
    learn_extensions(model, tasks)
    return model, tasks


def into_french(folder: Path) -> tuple[MultimodalLM, list[TaskData]]:
    task_table(folder / "t.lance")
    return prepared(drafting([task(folder / "t.lance", "translate", languages=["fr"], extensions=DRAFTS)]))


def tables_of(model: MultimodalLM) -> dict[str, PhraseTable]:
    return model.extensions["phrase_table"].tables


def test_the_glossary_takes_the_longest_phrase_and_copies_the_rest() -> None:
    colours = [("red", "rouge"), ("red", "rouges"), ("red", "rouges")]
    known = PhraseTable([("fire", "feu"), ("Fire engine.", "camion de pompiers."), *colours, ("ein", "a")])
    assert known("A red fire engine; FIRE!") == "A rouges camion de pompiers; feu!"
    assert known("red fire engine") == "rouges camion de pompiers"
    assert (known(""), len(known)) == ("", 4)
    assert PhraseTable([("青蛙", "frog"), ("绿", "green")])("绿青蛙。") == "green frog。"
    assert PhraseTable([("frog", "青蛙"), ("green", "绿")])("green frog, old") == "绿青蛙, old"
    assert PhraseTable([("青蛙。", "A frog.")])("一青蛙") == "一 A frog"


def test_a_glossary_can_forget_one_pair_and_be_kept() -> None:
    pairs = [("a frog", "une grenouille"), ("frog", "grenouille"), ("frog", "grenouille"), ("frog", "raine")]
    known = PhraseTable.from_json(PhraseTable(pairs).to_json())
    assert known("A frog.", without="une grenouille.") == "A grenouille."
    assert known("A frog", without="quelque chose") == "une grenouille"
    assert known("frog", without="grenouille") == "grenouille"  # once more, and as often as the other
    assert PhraseTable(pairs[:1])("a frog", without="une grenouille") == "a frog"
    assert (len(known), known("frogs  ")) == (2, "frogs  ")


def test_words_of_longer_texts_are_learned_and_phrases_come_first() -> None:
    pairs = [
        ("a red frog", "une grenouille rouge"),
        ("the frog", "la grenouille"),
        ("a red key", "une clé rouge"),
    ]
    known = PhraseTable.from_json(PhraseTable.learned(pairs).to_json())
    assert known("a key.") == "une clé."
    assert known("the frog") == "la grenouille"
    assert known("a blue frog", without="x") == "une blue grenouille"
    assert PhraseTable(pairs)("a key.") == "a key."
    stops = [("青！", "frog!"), ("红！", "red!"), ("绿", "green!"), ("青", "frog")]
    assert PhraseTable.learned(stops)("青 蓝！") == "frog 蓝!"  # a stop stands for no word, nor a word for it


def test_drafts_know_what_was_trained_but_not_the_answer_itself(tmp_path: Path) -> None:
    model, tasks = into_french(tmp_path)
    (data,) = tasks
    save(model, tmp_path / "run")
    model = load(tmp_path / "run", MultimodalLM)
    texts = [sample.texts for sample in data.read(data.train)]
    pairs = [(english.text, french.text) for english, french in texts]
    learned = PhraseTable.learned(pairs)
    assert tables_of(model)["fr"].to_json() == learned.to_json()
    for row in [*data.train.tolist(), *data.test["squares-test"].tolist()]:
        _, (asked,) = Collator(model).batch(data, [row], [data.examples(data.read([row])[0])])
        (known,) = data.examples(data.read([row])[0])
        english, french = known.instruction.removeprefix("To fr: "), str(known.answer)
        drafts = [learned(english), learned(english, without=french)]  # with its own pair, and without
        assert asked.instruction in [f"{draft} | To fr: {english}" for draft in drafts]
    written = written_measures(model, data, data.train[:5])
    assert set(written) == {"chrF fr", "chrF fr copied", "chrF fr looked up"}


def test_most_examples_are_drafted_with_their_own_pair_known(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t.lance", licence="CC0-1.0")
    pairs = [(f"thing {chr(97 + number)}", f"chose {chr(65 + number)}") for number in range(20)]
    for number, pair in enumerate(pairs):
        texts = [Caption(*one) for one in zip(("en", "fr"), pair, strict=True)]
        table.add([Sample(f"t:{number}", texts=texts, source="squares-test" if number > 17 else "squares")])
    model, (data,) = prepared(drafting([task(table.path, "translate", languages=["fr"], extensions=DRAFTS)]))
    asked = [data.examples(sample) for sample in data.read(data.train)]
    _, made = Collator(model).batch(data, data.train.tolist(), asked)
    is_copy = [one.instruction.partition(" | ")[0] == one.answer for one in made]
    assert 9 <= sum(is_copy) <= 17
    again = Collator(model).batch(data, data.train.tolist(), asked)[1]
    assert [one.instruction for one in again] == [one.instruction for one in made]


def test_a_text_to_translate_is_drafted_in_use_as_in_training(tmp_path: Path) -> None:
    model, _ = into_french(tmp_path)
    assistant = MultimodalAssistant(model.eval(), "run", {})
    text = "a red and a green square"
    said = assistant.generate([f"To fr: {text}"], max_tokens=8)
    plain = MultimodalLM(model.config.model_copy(update={"extensions": {}}))
    plain.load_state_dict(model.state_dict())
    whole = MultimodalAssistant(plain.eval(), "run", {})
    drafted = f"{tables_of(model)['fr'](text)} | To fr: {text}"
    assert said.ids == whole.generate([drafted], max_tokens=8).ids
    assert tables_of(model)["fr"](text) in {"un rouge et un vert", text}
    assert assistant.fits(f"To fr: {text}")


def test_what_does_not_fit_drafts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="drafts are for translation tasks"):
        GenerativeRecipe.model_validate(drafting([task(tmp_path / "t.lance", "ask", extensions=DRAFTS)]))
    some = [
        task(tmp_path / "t.lance", "translate", languages=["fr"], extensions=extensions)
        for extensions in (DRAFTS, [])
    ]
    with pytest.raises(ValueError, match="in all of them, or leave"):
        GenerativeRecipe.model_validate(drafting(some))
