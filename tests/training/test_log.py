"""The log: cut back on resume, read whole, drawn."""

from pathlib import Path

from sensorium.training.log import RunLog, draw_curve, read_log


def test_a_resumed_log_is_cut_back(tmp_path: Path) -> None:
    with RunLog(tmp_path, num_bytes=0, step=0, tensorboard=False) as log:
        log.write(1, {"loss": 2.5, "metrics": {"é": 1.0}})
        length = log.num_bytes()
        log.write(2, {"loss": 1.5})
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "lo')
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2]
    with RunLog(tmp_path, num_bytes=length, step=1, tensorboard=False) as log:
        log.write(2, {"loss": 1.25})
    assert read_log(tmp_path / "log.jsonl") == [
        {"step": 1, "loss": 2.5, "metrics": {"é": 1.0}},
        {"step": 2, "loss": 1.25},
    ]


def test_a_curve_is_drawn_from_nothing_and_from_something(tmp_path: Path) -> None:
    draw_curve(tmp_path / "empty.png", [])
    draw_curve(
        tmp_path / "full.png", [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "score": 0.5}]
    )
    sizes = [(tmp_path / name).stat().st_size for name in ("empty.png", "full.png")]
    assert 0 < sizes[0] < sizes[1]
    assert len(list(tmp_path.iterdir())) == 2
