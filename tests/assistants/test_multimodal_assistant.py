"""A multimodal model as an assistant: pictures, sounds and texts in, text and pictures out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal_world import BPE, SIDE, build
from sensorium.assistants.assistant import Assistant, Turn, WriteConfig
from sensorium.assistants.load import load, load_assistant
from sensorium.assistants.multimodal_assistant import CodesOnly, MultimodalAssistant
from sensorium.codecs import ImageFsq, ImageFsqConfig
from sensorium.core.errors import UsageError
from sensorium.media.types import Audio, Image
from sensorium.models.checkpoint import save


def picture(seed: int) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> MultimodalAssistant:
    folder = tmp_path_factory.mktemp("run")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        codec = ImageFsq(ImageFsqConfig(size_px=16, widths=(4, 8), levels=(3, 5))).eval()
    save(codec, folder / "codec")
    decoders = {
        "text": {"tokenizer_json": BPE, "width": 24, "num_heads": 2, "depth": 2},
        "image": {
            "codec": "elsewhere/codec",
            "num_codes": 15,
            "num_positions": 5,
            "width": 16,
            "num_heads": 2,
            "depth": 1,
        },
    }
    save(build(decoders=decoders), folder)
    found = load(folder)
    assert isinstance(found, MultimodalAssistant)
    assert isinstance(found, Assistant)
    return found


def test_answers_depend_on_what_is_seen_and_asked(assistant: MultimodalAssistant) -> None:
    def ids(*parts: object) -> list[int]:
        return assistant.generate(list(parts), max_tokens=6).ids

    seen = ids(picture(1), "a red tree")
    assert seen == ids(picture(1), "a red tree")
    others = [ids(picture(2), "a red tree"), ids(picture(1), "the sun"), ids("a red tree"), ids(picture(1))]
    assert any(one != seen for one in others)
    assert isinstance(assistant.generate([picture(1), "a red tree"], max_tokens=6).text, str)


def test_a_picture_is_as_many_codes_as_its_codec_asks_for(assistant: MultimodalAssistant) -> None:
    drawn = assistant.generate(["a red tree"], to="image", temperature=1.0, seed=3)
    assert len(drawn.ids) == 4
    assert all(0 <= one < 15 for one in drawn.ids)
    assert drawn.image.pixels.shape == (16, 16, 3)
    assert drawn.text == ""
    again = assistant.generate(["a red tree"], to="image", temperature=1.0, seed=3)
    assert again.ids == drawn.ids


def test_media_of_earlier_turns_stay_in_view(assistant: MultimodalAssistant) -> None:
    short = WriteConfig(max_tokens=5)
    first = Turn("user", (picture(1), "the sun"))
    later = assistant.reply([first, Turn("assistant", ("a hat",)), Turn("user", ("a red tree",))], short).ids
    assert later == assistant.generate([picture(1), "a red tree"], max_tokens=5).ids
    newer = assistant.reply([first, Turn("user", (picture(2), "a red tree"))], short).ids
    assert newer == assistant.generate([picture(2), "a red tree"], max_tokens=5).ids


def test_sound_is_heard(assistant: MultimodalAssistant) -> None:
    sound = Audio(np.sin(np.arange(3000, dtype=np.float32))[:, None], 16_000)
    assert len(assistant.generate([sound], max_tokens=3).ids) <= 3


def test_what_it_cannot_do_is_said(assistant: MultimodalAssistant, tmp_path: Path) -> None:
    assert assistant.outputs == ("text", "image")
    with pytest.raises(UsageError, match="generates text, image, not audio"):
        assistant.generate(["a"], to="audio")
    with pytest.raises(UsageError, match="accepts one image at a time"):
        assistant.generate([picture(1), picture(2), "a"])
    with pytest.raises(UsageError, match="are for text, not for image"):
        assistant.reply([Turn("user", ("a",))], WriteConfig(stops=("b",)), to="image")
    with pytest.raises(UsageError, match="system messages"):
        assistant.reply([Turn("system", ("Be kind.",)), Turn("user", ("a",))])
    with pytest.raises(UsageError, match="the text is too long for run"):
        assistant.generate(["a red tree " * 900])
    save(build(decoders={"text": {"tokenizer_json": BPE, "width": 24, "num_heads": 2}}), tmp_path / "m")
    assert load_assistant(tmp_path / "m").outputs == ("text",)
    ids = torch.tensor([[1, 5, 7]])
    assert assistant.logits(ids).shape == (1, 3, assistant.model.decoder("text").tokenizer.vocab_size)


def test_only_what_a_codec_can_decode_is_written() -> None:
    scores, low = torch.zeros(5), -torch.inf  # three codes, the start, the end
    speech, picture = CodesOnly(3, is_fixed=False), CodesOnly(3, is_fixed=True)
    assert speech(scores, []).tolist() == [0, 0, 0, low, low]  # no speech of no codes
    assert speech(scores, [1]).tolist() == [0, 0, 0, low, 0]
    assert picture(scores, [1]).tolist() == [0, 0, 0, low, low]
    assert scores.tolist() == [0] * 5
