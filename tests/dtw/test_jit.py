"""Machine code is compiled once on a machine, and only then is anything said of it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sensorium.core.jit import compiled, usable


def imported(path: Path) -> Callable[..., object]:
    spec = importlib.util.spec_from_file_location("small_kernel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.double  # type: ignore[no-any-return]


@pytest.mark.skipif(not usable(), reason="numba does not work here")
def test_progress_is_told_of_compiling_and_not_of_reading(tmp_path: Path) -> None:
    path = tmp_path / "small_kernel.py"
    path.write_text("def double(x):\n    return x + x\n")
    told: list[tuple[int, int | None, str]] = []
    for expected in (2, 2):  # the second function is another object, its machine code lies on disk
        kernel = compiled(
            imported(path), "f(f)", np.dtype(np.float32), progress=lambda *one: told.append(one)
        )
        assert kernel(np.float32(3.5)) == 7
        assert len(told) == expected
    assert told[0] == (0, 1, "compiling for this processor, once")
    assert told[1][:2] == (1, 1)
