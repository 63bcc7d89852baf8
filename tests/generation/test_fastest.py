"""`fastest_decoder`: which decoder it builds, and which precisions it refuses."""

import pytest

from gguf_files import random_model
from sensorium.core.errors import UsageError
from sensorium.generation import PlainDecoder, engine, fastest_decoder
from sensorium.generation.cpu.decoder import CompiledDecoder


def test_the_compiled_decoder_is_used_where_it_works() -> None:
    model = random_model("qwen3", 31)
    assert isinstance(fastest_decoder(model, 2, 16), CompiledDecoder)
    assert isinstance(fastest_decoder(model, 2, 16, "fp32"), PlainDecoder)


def test_without_numba_bf16_falls_back_and_fewer_bits_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = random_model("llama", 31)
    monkeypatch.setattr(engine, "usable", lambda: False)
    assert isinstance(fastest_decoder(model, 2, 16), PlainDecoder)
    with pytest.raises(UsageError, match="int4 needs the compiled decoder on a CPU, but numba does"):
        fastest_decoder(model, 2, 16, "int4")
