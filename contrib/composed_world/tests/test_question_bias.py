"""What questions give away, measured on rows that give away all or nothing."""

import json
from pathlib import Path

import pytest

from composed_world.question_bias import question_bias
from sensorium.cli import main
from sensorium.core.errors import UsageError
from sensorium.data.questions import KEY, Question, to_meta
from sensorium.data.table.sample import Caption, Sample
from sensorium.data.table.table import Table


def table(path: Path, sources: tuple[str, ...] = ("scenes", "scenes-seen")) -> Table:
    """Colours follow from kinds; whether something is there follows from nothing."""
    made = Table.create(path)
    samples = []
    for source in sources:
        for number in range(40):
            kind, colour = (("frog", "red"), ("key", "blue"))[number % 2]
            questions = [
                Question(f"What colour is the {kind}?", colour, "colour"),
                Question(f"Is there a {kind}?", ("yes", "no")[number // 2 % 2], "presence"),
            ]
            text = f"{source} {number}"
            samples.append(
                Sample(text, texts=[Caption("en", text)], source=source, meta={KEY: to_meta(questions)})
            )
    made.add(samples)
    return made


@pytest.mark.parametrize("sources", [("scenes", "scenes-seen"), ("scenes",)])
def test_words_that_tell_are_found(tmp_path: Path, sources: tuple[str, ...]) -> None:
    found = {one.type: one for one in question_bias(table(tmp_path / "t.lance", sources))}
    assert set(found) == {"all", "colour", "presence"}
    assert {one.source for one in found.values()} == {sources[-1]}
    assert found["colour"].bag_of_words.mean == 1.0
    assert 0.3 < found["colour"].commonest.mean < 0.7  # the form does not say which kind
    assert 0.2 < found["presence"].bag_of_words.mean < 0.8


def test_the_command_prints_a_row_for_each_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(table(tmp_path / "t.lance").path)
    assert main(["data", "questions", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["type"], one["num_questions"]) for one in found] == [
        ("all", 80), ("colour", 40), ("presence", 40)
    ]  # fmt: skip
    assert found[1]["bag_of_words"]["mean"] == 1.0
    assert main(["data", "questions", path]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("scenes-seen\tcolour\t40\t")


def test_tables_without_questions_are_told(tmp_path: Path) -> None:
    empty = Table.create(tmp_path / "e.lance")
    empty.add([Sample("a", texts=[Caption("en", "a")])])
    with pytest.raises(UsageError, match="no row has questions"):
        question_bias(empty)
    with pytest.raises(UsageError, match="no questions of source 'x'; there are scenes"):
        question_bias(table(tmp_path / "t.lance"), train="x")
