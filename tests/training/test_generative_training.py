"""Training multimodal language models: examples, batches, exact resume, learning; what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_tasks import recipe_values, task, task_sample, task_table
from torch import Tensor

from sensorium.core.errors import ConfigError, TrainingError, UsageError
from sensorium.losses import IGNORED
from sensorium.models.checkpoint import load
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.training.generative.batches import Collator, all_batches, mixed_batches
from sensorium.training.generative.build import build_multimodal
from sensorium.training.generative.evaluate import evaluate, marks
from sensorium.training.generative.examples import examples_of
from sensorium.training.generative.recipe import GenerativeRecipe, NextId
from sensorium.training.generative.task import open_task
from sensorium.training.generative.text_metrics import write_answers
from sensorium.training.log import read_log
from sensorium.training.trainer import train


def prepared(
    folder: Path, names: list[str], **options: object
) -> tuple[GenerativeRecipe, MultimodalLM, list]:
    folder.mkdir(exist_ok=True)
    task_table(folder / "t.lance")
    values = recipe_values([task(folder / "t.lance", name, **options) for name in names])
    recipe = GenerativeRecipe.model_validate(values)
    tasks = [open_task(one, recipe.seed) for one in recipe.data.tasks]
    return recipe, build_multimodal(recipe, tasks)[0], tasks


def test_a_row_gives_examples_for_each_task() -> None:
    sample = task_sample(1, "s")
    counts = {
        name: len(examples_of(sample, name, ["en"]))
        for name in ("ask", "caption", "transcribe", "text", "speak")
    }
    assert counts == {"ask": 3, "caption": 1, "transcribe": 1, "text": 3, "speak": 1}
    (to_french,) = examples_of(sample, "translate", ["fr"])
    assert to_french.instruction == f"To fr: {sample.texts[0].text}"
    assert to_french.answer == sample.texts[1].text
    assert to_french.type == "fr"
    assert examples_of(sample, "translate", ["de"]) == []
    (drawn,) = examples_of(sample, "draw", ["en"])
    assert (drawn.instruction, drawn.answer, drawn.media) == (sample.texts[0].text, sample.image, {})
    assert [one.media.keys() for one in examples_of(sample, "text", ["en"])] == [set()] * 3


def test_only_answers_are_learned(tmp_path: Path) -> None:
    _, model, tasks = prepared(tmp_path, ["ask"], per_row=2)
    batch = next(mixed_batches(tasks, Collator(model), batch_size=3, seed=0).epoch(0))
    writer = model.decoder("text")
    assert batch.media.inputs["image"].values.shape[0] == 3
    assert batch.media.shared["image"].tolist() == [0, 0, 1, 1, 2, 2]
    for row in range(6):
        targets = batch.sequences.targets[row]
        learned = targets[targets != IGNORED].tolist()
        assert learned[-1] == writer.end_ids[0]
        sample = tasks[0].read([int(batch.rows[row])])[0]
        answers = {one.instruction: one.answer for one in examples_of(sample, "ask", ["en"])}
        read = writer.tokenizer.decode(batch.sequences.ids[row][batch.sequences.mask[row]].tolist())
        question = next(one for one in answers if read.startswith(one))
        assert writer.tokenizer.decode(learned) == answers[question]
        assert (targets[: len(writer.prompt_ids(question)) - 1] == IGNORED).all()


def test_lessons_depend_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    _, model, tasks = prepared(tmp_path, ["ask", "translate", "transcribe"], languages=["en", "fr"])
    options = {"batch_size": 5, "seed": 3}
    whole = list(mixed_batches(tasks, Collator(model), **options).epoch(1))
    tail = list(mixed_batches(tasks, Collator(model), **options).epoch(1, 4))
    assert len(whole) == len(mixed_batches(tasks, Collator(model), **options))
    assert {batch.task for batch in whole} == {"ask", "translate", "transcribe"}
    for one, other in zip(whole[4:], tail, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.sequences.ids, other.sequences.ids)


def test_weights_decide_how_often_a_task_comes(tmp_path: Path) -> None:
    _, model, tasks = prepared(tmp_path, ["ask", "translate"], languages=["fr"])
    from dataclasses import replace

    heavy = replace(tasks[0], config=tasks[0].config.model_copy(update={"weight": 9.0}))
    many = mixed_batches([heavy, tasks[1]], Collator(model), batch_size=2, seed=0)
    names = [batch.task for epoch in range(4) for batch in many.epoch(epoch)]
    assert 0.8 < names.count("ask") / len(names) < 0.98
    rows = [row for batch in many.epoch(0) if batch.task == "ask" for row in batch.rows.tolist()]
    assert set(rows) == set(range(24))  # more than one pass, each a permutation


def test_a_run_learns_its_word_pieces_and_logs_each_task(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    names = ("ask", "translate", "transcribe")
    tasks = [task(tmp_path / "t.lance", name, languages=["fr", "en"]) for name in names]
    train(GenerativeRecipe.model_validate(recipe_values(tasks)), tmp_path / "run")
    assert load(tmp_path / "run", MultimodalLM).decoder("text").tokenizer.vocab_size <= 300
    terms = {key for line in read_log(tmp_path / "run" / "log.jsonl") for key in line}
    assert terms & {"loss/ask", "loss/translate", "loss/transcribe"}


@pytest.mark.slow
def test_it_learns_to_answer_questions_that_need_the_picture(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance", 128, 20)
    values = recipe_values([task(tmp_path / "t.lance", "ask", per_row=3)], steps=200, batch_size=16, ema=0.9)
    values["data"]["max_measured"] = 20
    outcome = train(GenerativeRecipe.model_validate(values), tmp_path / "run").outcome
    assert outcome.evaluation is not None
    figures = outcome.evaluation.metrics["ask squares-test"]
    assert figures["relation"] > 0.7  # a guess is right in one of three


def test_exact_is_what_greedy_decoding_writes(tmp_path: Path) -> None:
    _, model, tasks = prepared(tmp_path, ["ask"])
    model.eval()
    batch, kept = Collator(model).batch(
        tasks[0], [0, 1], [tasks[0].examples(one) for one in tasks[0].read([0, 1])]
    )
    exact, loss, size = marks(model, batch)
    writer = model.decoder("text")
    assert len(exact) == len(kept) == 6
    assert size == sum(len(writer.answer_ids(one.answer)) for one in kept)
    assert loss == pytest.approx(np.log(writer.tokenizer.vocab_size), rel=0.3)
    with torch.no_grad():  # whatever the model writes first is made the answer
        written = model(batch)
        best = (written.hidden @ writer.model.output_matrix.T).argmax(dim=1)
        first = batch.sequences.targets[0] != IGNORED
        batch.sequences.targets[0][first] = best[: int(first.sum())]
    assert marks(model, batch)[0] == [True, *exact[1:]]


def test_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    _, model, tasks = prepared(tmp_path, ["ask"])
    batch = next(mixed_batches(tasks, Collator(model), batch_size=3, seed=0).epoch(0))
    written = model(batch)
    assert NextId().bad_rows(written, batch) == []
    written.hidden.detach()[-1, 0] = float("nan")
    assert NextId().bad_rows(written, batch) == [int(batch.rows[-1])]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    values = recipe_values([task(tmp_path / "t.lance", "draw")])
    with pytest.raises(ValueError, match="writes image, but there is no"):
        GenerativeRecipe.model_validate(values)
    values = recipe_values([task(tmp_path / "t.lance", "ask")])
    values["data"]["tasks"][0]["test"] = {"source": "nowhere"}
    with pytest.raises(ConfigError, match="no row has source 'nowhere'"):
        train(GenerativeRecipe.model_validate(values), tmp_path / "run")
    values["data"]["tasks"][0]["test"] = {"source": ["squares", "squares-test"]}
    with pytest.raises(TrainingError, match="0 rows train"):
        train(GenerativeRecipe.model_validate(values), tmp_path / "run")
    values = recipe_values([task(tmp_path / "t.lance", "ask")])
    values["model"]["mode"], values["data"]["pack"] = "prefix", 30
    with pytest.raises(ValueError, match="cannot each have a prefix"):
        GenerativeRecipe.model_validate(values)
    values["model"]["mode"], values["model"]["decoders"]["text"]["diagonal_slope"] = "memory", 0.5
    with pytest.raises(ValueError, match="needs one sequence per row"):
        GenerativeRecipe.model_validate(values)


def test_of_questions_some_types_alone_can_be_practised(tmp_path: Path) -> None:
    tasks = prepared(tmp_path, ["ask"])[2]
    table = str(tasks[0].config.table)
    found = {one.type for sample in tasks[0].read([0]) for one in tasks[0].examples(sample)}
    assert len(found) > 1
    wanted = min(found)
    recipe = GenerativeRecipe.model_validate(recipe_values([task(Path(table), "ask", types=[wanted])]))
    data = open_task(recipe.data.tasks[0], seed=0)
    kept = [one.type for sample in data.read([0, 1]) for one in data.examples(sample)]
    assert set(kept) == {wanted}
    blind = GenerativeRecipe.model_validate(recipe_values([task(Path(table), "text", types=[wanted])]))
    data = open_task(blind.data.tasks[0], seed=0)
    unseen = [one for sample in data.read([0, 1]) for one in data.examples(sample)]
    assert [(one.type, dict(one.media)) for one in unseen] == [(type, {}) for type in kept]
    values = recipe_values([task(Path(table), "ask", types=[wanted, "smell"])])
    with pytest.raises(ConfigError, match=r"no question of type 'smell' in \d+ rows; known: "):
        open_task(GenerativeRecipe.model_validate(values).data.tasks[0], seed=0)
    with pytest.raises(ValueError, match="types are those of questions"):
        GenerativeRecipe.model_validate(recipe_values([task(Path(table), "caption", types=[wanted])]))


@pytest.mark.parametrize(
    ("name", "then"),
    [("caption", "caption IMAGE"), ("transcribe", "transcribe AUDIO"), ("translate", "translate")],
)
def test_what_to_do_next_is_what_was_taught(tmp_path: Path, name: str, then: str) -> None:
    task_table(tmp_path / "t.lance")
    values = recipe_values([task(tmp_path / "t.lance", name, languages=["fr", "en"])], steps=1)
    assert train(GenerativeRecipe.model_validate(values), tmp_path / "run").next_step.startswith(
        f"sensorium {then} "
    )


def test_tasks_over_one_table_hold_out_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.lance"
    values = recipe_values([task(path, "ask"), task(path, "caption")])
    first, second = values["data"]["tasks"]
    second["test"] = {"source": ["squares-test", "more"]}
    with pytest.raises(ValueError, match=r"tasks 'ask' and 'caption' over .* name the same test in both"):
        GenerativeRecipe.model_validate(values)
    second["table"] = str(tmp_path / "." / "t.lance") + "/"
    with pytest.raises(ValueError, match="hold out different rows"):
        GenerativeRecipe.model_validate(values)
    first["test"] = {"source": ["more", "squares-test"]}  # the same, spelt otherwise
    GenerativeRecipe.model_validate(values)
    second |= {"table": str(tmp_path / "other.lance"), "test": 0.2}  # another table
    GenerativeRecipe.model_validate(values)


def test_a_run_may_start_from_another(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    values = recipe_values([task(tmp_path / "t.lance", "ask")], steps=2)
    train(GenerativeRecipe.model_validate(values), tmp_path / "first")
    first = load(tmp_path / "first", MultimodalLM)
    recipe = GenerativeRecipe.model_validate({**values, "seed": 5, "start": str(tmp_path / "first")})
    model, _ = build_multimodal(recipe, [open_task(recipe.data.tasks[0], 5)])
    for name, tensor in first.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_a_run_may_keep_some_of_what_it_started_from(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    values = recipe_values([task(tmp_path / "t.lance", "ask")], steps=3)
    train(GenerativeRecipe.model_validate(values), tmp_path / "first")

    def go_on(share: float, folder: str, start: str = "first") -> dict[str, Tensor]:
        on = {"train": values["train"] | {"start_share": share}, "start": start and str(tmp_path / start)}
        train(GenerativeRecipe.model_validate({**values, **on}), tmp_path / folder)
        return load(tmp_path / folder, MultimodalLM).state_dict()

    first, whole, kept = load(tmp_path / "first").state_dict(), go_on(0.0, "whole"), go_on(0.25, "kept")
    assert any(not torch.equal(whole[name], tensor) for name, tensor in first.items())
    for name, tensor in first.items():
        mean = 0.25 * tensor + 0.75 * whole[name] if tensor.is_floating_point() else whole[name]
        torch.testing.assert_close(kept[name], mean)
    with pytest.raises(UsageError, match="start_share needs a run to start from; name it in `start`"):
        go_on(0.25, "without", start="")


def test_pieces_are_read_as_they_are_written_at_first(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    values = recipe_values([task(tmp_path / "t.lance", "ask")])
    for width, is_alike in ((32, True), (16, False)):
        values["model"]["decoders"]["text"] = {"width": width, "depth": 1, "num_heads": 2}
        recipe = GenerativeRecipe.model_validate(values)
        model, _ = build_multimodal(recipe, [open_task(recipe.data.tasks[0], 0)])
        read = model.sources["text"].embedding.weight.detach()
        written = model.decoder("text").model.embedding.weight.detach()
        if not is_alike:
            assert read.shape != written.shape
            continue
        assert torch.nn.functional.cosine_similarity(read, written).min() > 0.9999
        assert read.std() > 2 * written.std()


@pytest.mark.parametrize(
    ("name", "measures"),
    [
        ("caption", {"CIDEr-D", "CIDEr-D of the commonest"}),
        ("transcribe", {"WER", "CER"}),
        ("translate", {"chrF fr", "chrF fr copied"}),
        ("ask", {"without media", "exact", "relation", "presence"}),
    ],
)
def test_each_task_is_measured_beside_what_needs_no_model(
    tmp_path: Path, name: str, measures: set[str]
) -> None:
    _, model, tasks = prepared(tmp_path, [name], languages=["fr"] if name == "translate" else ["en"])
    found = evaluate(model.eval(), tasks, 4, 3).metrics[f"{name} squares-test"]
    assert measures <= set(found)
    rows = tasks[0].test["squares-test"][:4]
    assert found["examples"] == sum(len(asked) for _, asked in all_batches(model, tasks[0], rows))


def test_what_is_written_is_exact_where_the_marks_say_so(tmp_path: Path) -> None:
    values = recipe_values([task(task_table(tmp_path / "t.lance").path, "ask")], steps=40, batch_size=8)
    train(GenerativeRecipe.model_validate(values), tmp_path / "run")
    model = load(tmp_path / "run", MultimodalLM)
    data = open_task(GenerativeRecipe.model_validate(values).data.tasks[0], 0)
    rows = np.arange(5)
    written = write_answers(model, data, rows)
    marked = [one for batch, _ in all_batches(model, data, rows) for one in marks(model, batch)[0]]
    assert [one.text == one.example.answer for one in written] == marked
    assert any(marked)
    assert not all(marked)
