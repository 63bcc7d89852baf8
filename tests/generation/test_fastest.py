"""Which decoder is chosen, and what cannot be had."""

import pytest

from gguf_files import random_model
from sensorium.core.errors import UsageError
from sensorium.generation import PlainDecoder, fastest, fastest_decoder
from sensorium.generation.cpu.decoder import CompiledDecoder


def test_machine_code_is_taken_where_it_can_be() -> None:
    model = random_model("qwen3", 31)
    assert isinstance(fastest_decoder(model, 2, 16), CompiledDecoder)
    assert isinstance(fastest_decoder(model, 2, 16, "fp32"), PlainDecoder)


def test_without_machine_code_bf16_falls_back_and_fewer_bits_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = random_model("llama", 31)
    monkeypatch.setattr(fastest, "usable", lambda: False)
    assert isinstance(fastest_decoder(model, 2, 16), PlainDecoder)
    with pytest.raises(UsageError, match="int4 needs machine code on a processor, but numba does"):
        fastest_decoder(model, 2, 16, "int4")
