"""The laws of comparisons in time: an idle machine, equal turns, rounds enough, results as new as code."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

machine, render = (importlib.import_module(name) for name in ("machine", "render"))

FAIR = {"machine": {"load_average": 1.9, "cores": 2}, "rounds": 7}


def test_contenders_take_turns_in_rotated_order():
    seen: list[str] = []
    found = machine.in_turns(["a", "b", "c"], 7, lambda name: seen.append(name) or len(seen))
    assert [seen[start : start + 3] for start in range(0, 9, 3)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
    ]
    assert {name: len(values) for name, values in found.items()} == {"a": 7, "b": 7, "c": 7}


def test_ratios_are_those_of_a_round():
    over = machine.ratios({"ours": [1.0, 10.0, 2.0], "theirs": [2.0, 30.0, 3.0]}, "ours")
    assert over["theirs"] == {"median": 2.0, "min": 1.5, "max": 3.0}


def test_too_few_rounds_are_refused():
    with pytest.raises(SystemExit, match="at least 7"):
        machine.in_turns(["a"], 6, lambda name: 0)


def test_a_loaded_machine_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "LOAD_AT_START", 1000.0)
    with pytest.raises(SystemExit, match="idle machine"):
        machine.require_idle()
    monkeypatch.setattr(machine, "LOAD_AT_START", 0.1)
    machine.require_idle()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"machine": {"load_average": 2.1, "cores": 2}}, "load 2.1"), ({"rounds": 6}, "6 rounds")],
)
def test_the_renderer_refuses_unfair_results(changes, said):
    assert render.broken_laws("dtw", FAIR) == []
    [line] = render.broken_laws("dtw", FAIR | changes)
    assert said in line
    assert render.broken_laws("stamps", FAIR | changes) == []  # no comparison in time


def test_a_result_older_than_its_code_is_marked(tmp_path, monkeypatch):
    source = tmp_path / "src" / "sensorium"
    source.mkdir(parents=True)
    file = source / "kernel.py"
    file.write_text('"""What it is."""\n\nx = 1  # one\n')
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setitem(machine.MEASURED_CODE, "dtw", ("kernel.py",))
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    found = json.loads(machine.write("dtw", {}).read_text())
    assert render.age("dtw", found) == []
    file.write_text('"""Said in other words."""\n\nx    = 1\n')
    assert render.age("dtw", found) == []
    file.write_text('"""What it is."""\n\nx = 2\n')
    assert "Older" in render.age("dtw", found)[0]


def test_every_result_names_its_code():
    stems = {path.stem for path in machine.RESULTS.glob("*.json")}
    assert stems <= set(machine.MEASURED_CODE)
    assert set(render.TIMED) <= set(machine.MEASURED_CODE)
    for name in machine.MEASURED_CODE:
        assert machine.code_files(name)
