"""An assistant over a small language model: what is asked is what the model reads, whole or in pieces."""

from pathlib import Path

import pytest
import torch

import sensorium
from gguf_files import CONTEXT, write_model
from sensorium.assistants.assistant import Assistant, Turn, WriteConfig, write_config
from sensorium.assistants.load import load, load_assistant
from sensorium.assistants.text_assistant import TextAssistant
from sensorium.core.errors import CheckpointError, MissingExtraError, NotFoundError, UsageError
from sensorium.media import Image
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.models.pretrained import hub

SHORT = WriteConfig(max_tokens=7)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_model(path)
    return path


@pytest.fixture(scope="module")
def assistant(model_file: Path) -> TextAssistant:
    return load(model_file, TextAssistant).with_precision("fp32")


def greedy(assistant: TextAssistant, ids: list[int], count: int) -> list[int]:
    """The likeliest ids, by whole passes without a cache."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(assistant.logits(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


def test_an_answer_is_what_the_model_writes_after_the_laid_out_turns(assistant: TextAssistant) -> None:
    answer = assistant.generate(["low", "lower"], max_tokens=7)
    prompt = [*assistant.tokenizer.encode("low\nlower", with_special=False), 2]
    assert answer.ids == greedy(assistant, prompt, 7)
    assert answer.text == assistant.tokenizer.decode(answer.ids)
    assert (answer.reason, answer.num_prompt, answer.image, answer.audio) == (
        "length",
        len(prompt),
        None,
        None,
    )
    logprobs = assistant.logits(torch.tensor([[*prompt, *answer.ids]]))[0].log_softmax(-1)
    expected = [logprobs[len(prompt) - 1 + place, one].item() for place, one in enumerate(answer.ids)]
    assert answer.logprobs == pytest.approx(expected, abs=1e-5)


def test_pieces_are_the_whole(assistant: TextAssistant) -> None:
    whole = assistant.generate(["low"], max_tokens=11, temperature=1.0, seed=3)
    streamed = assistant.generate(["low"], max_tokens=11, temperature=1.0, seed=3, stream=True)
    assert "".join(streamed) == whole.text
    assert streamed.ids == whole.ids
    assert assistant.generate(["low"], max_tokens=11, temperature=1.0, seed=4).ids != whole.ids


def test_a_cancelled_answer_keeps_what_it_has(assistant: TextAssistant) -> None:
    answer = assistant.generate(["low"], max_tokens=11, stream=True)
    next(iter(answer))
    answer.cancel()
    assert answer.reason == "cancelled"
    assert 0 < len(answer.ids) < 11


def test_a_text_is_continued_as_it_stands(assistant: TextAssistant) -> None:
    answer = assistant.complete("low <end>", SHORT)
    assert answer.ids == greedy(assistant, assistant.tokenizer.encode("low <end>", with_special=False), 7)


def test_a_text_file_is_read_and_other_media_are_refused(assistant: TextAssistant, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("lower")
    by_file = assistant.generate([tmp_path / "note.txt"], max_tokens=5)
    assert by_file.ids == assistant.generate(["lower"], max_tokens=5).ids
    image = Image(torch.zeros(5, 7, 3, dtype=torch.uint8).numpy())
    with pytest.raises(UsageError, match=r"tiny reads text, got Image\(7x5\); --model assistant supports"):
        assistant.generate([image, "What is this?"])
    with pytest.raises(UsageError, match="tiny generates text, not image"):
        assistant.generate(["a frog"], to="image")


def test_what_does_not_fit_is_left_out_from_the_oldest_or_refused(assistant: TextAssistant) -> None:
    turns = [Turn("user", ("low " * 9,)), Turn("assistant", ("low " * 9,)), Turn("user", ("lower",))]
    assert assistant.reply(turns, SHORT).num_prompt > 30
    assert (
        assistant.reply(turns, write_config(29, 0.0)).ids
        == assistant.reply(turns[2:], write_config(29, 0.0)).ids
    )
    with pytest.raises(UsageError, match="shorten the last message"):
        assistant.reply([Turn("user", ("low " * 99,))], SHORT)
    with pytest.raises(UsageError, match=f"{CONTEXT - 1} fit; shorten the text"):
        assistant.complete("low " * 99, SHORT)
    with pytest.raises(UsageError, match="nothing to continue"):
        assistant.complete("", SHORT)
    assert len(assistant.complete("low", write_config(999, 0.0)).ids) <= CONTEXT - 1


def test_fewer_bits_give_nearly_the_same_odds(assistant: TextAssistant) -> None:
    prompt = [*assistant.tokenizer.encode("low", with_special=False), 2]
    for precision, most in (("bf16", 0.1), ("int8", 0.2), ("int4", 1.5)):
        answer = assistant.with_precision(precision).generate(["low"], max_tokens=7)
        logprobs = assistant.logits(torch.tensor([[*prompt, *answer.ids]]))[0].log_softmax(-1)
        exact = [logprobs[len(prompt) - 1 + place, one].item() for place, one in enumerate(answer.ids)]
        errors = [abs(one - other) for one, other in zip(answer.logprobs, exact, strict=True)]
        assert 1e-5 < sum(errors) / len(errors) < most


def test_a_guided_answer_is_one_of_the_choices(assistant: TextAssistant) -> None:
    guide = assistant.grammars().choice(["low", "newest"])
    assert assistant.reply([Turn("user", ("low",))], SHORT, guide=guide).text in {"low", "newest"}


def test_load_tells_what_there_is(model_file: Path, tiny_run: Path) -> None:
    assert isinstance(sensorium.load(model_file), Assistant)
    assert isinstance(sensorium.load(tiny_run), JointEmbedding)
    with pytest.raises(CheckpointError, match="is a TextAssistant; this needs a JointEmbedding"):
        load(model_file, JointEmbedding)
    with pytest.raises(UsageError, match="is a JointEmbedding, which does not converse; try --model smollm2"):
        load_assistant(tiny_run)
    with pytest.raises(NotFoundError, match="no model 'smollm'; did you mean 'smollm2'"):
        load("smollm")


def test_a_folder_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(CheckpointError, match="holds a 'mamba'; supported: llama, qwen2, qwen3"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        load(tmp_path)


def test_the_hub_is_asked_for_what_is_not_cached(
    monkeypatch: pytest.MonkeyPatch, model_file: Path, tmp_path: Path
) -> None:
    asked = []

    class Hub:
        @staticmethod
        def snapshot_download(name: str, *, local_files_only: bool, allow_patterns: list[str]) -> str:
            asked.append((name, local_files_only))
            if local_files_only:
                raise FileNotFoundError("not cached")
            (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
            return str(tmp_path)

    monkeypatch.setattr(hub, "require", lambda module, extra: Hub)
    with pytest.raises(CheckpointError, match="mamba"):
        load("hf:pond/frog")
    assert asked == [("pond/frog", True), ("pond/frog", False)]


def test_without_the_hub_s_client_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "sensorium\[hub\]"'):
        load("hf:pond/frog")
