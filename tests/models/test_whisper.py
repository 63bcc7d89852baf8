"""Whisper in our classes: equal to transformers, from both layouts; cached = uncached = batched."""

import json
from pathlib import Path

import pytest
import torch
import transformers

import tiny_whisper
from sensorium.core.errors import CheckpointError, NotFoundError, UsageError
from sensorium.models.pretrained import whisper
from sensorium.models.pretrained.whisper_vocabulary import WhisperVocabulary

NUM_IDS, FRAMES = 47, 2 * tiny_whisper.NUM_POSITIONS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> whisper.Whisper:
    folder = tmp_path_factory.mktemp("whisper")
    return whisper.load_whisper(tiny_whisper.write_hf(folder, tiny_whisper.random_state()))


@pytest.fixture
def vocabulary(tiny: whisper.Whisper) -> WhisperVocabulary:
    return tiny.vocabulary


def some_frames(rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, FRAMES, tiny_whisper.NUM_MELS, generator=torch.Generator().manual_seed(1))


def some_ids(rows: int = 2, count: int = NUM_IDS) -> torch.Tensor:
    size = tiny_whisper.vocab_size()
    return torch.randint(size, (rows, count), generator=torch.Generator().manual_seed(2))


def logits(model: torch.nn.Module, ids: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    decoder = model.decoder
    return decoder.logits(decoder(decoder.embed(ids), memory=model.encode(frames)))


def greedy(model: torch.nn.Module, frames: torch.Tensor, count: int) -> torch.Tensor:
    """Ids one after another from a cache."""
    decoder, memory = model.decoder, model.encode(frames)
    caches = decoder.new_caches(len(frames), count + 1)
    ids = torch.full((len(frames), 1), 3)
    for place in range(count):
        at = torch.tensor([[place]])
        hidden = decoder(decoder.embed(ids[:, -1:], at), positions=at, memory=memory, caches=caches)
        ids = torch.cat([ids, decoder.logits(hidden)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


def test_logits_and_greedy_ids_are_those_of_transformers(tiny: whisper.Whisper) -> None:
    config = transformers.WhisperConfig(**tiny_whisper.settings(), begin_suppress_tokens=None)
    theirs = transformers.WhisperForConditionalGeneration(config).eval()
    missing, unexpected = theirs.load_state_dict(tiny_whisper.random_state(), strict=False)
    assert (missing, unexpected) == (["proj_out.weight"], [])
    frames, ids = some_frames(), some_ids()
    with torch.no_grad():
        reference = theirs(input_features=frames.transpose(1, 2), decoder_input_ids=ids).logits
        ours = logits(tiny.model, ids, frames)
        assert (ours - reference).norm() <= 1e-5 * reference.norm()
        written = greedy(tiny.model, frames, NUM_IDS)
        again = theirs(input_features=frames.transpose(1, 2), decoder_input_ids=written).logits
    assert torch.equal(again[:, :-1].argmax(-1), written[:, 1:])


def test_cached_equals_uncached_and_batched_equals_single(tiny: whisper.Whisper) -> None:
    frames = some_frames()
    with torch.no_grad():
        written = greedy(tiny.model, frames, NUM_IDS)
        whole = logits(tiny.model, written, frames)
        for row in (0, 1):
            alone = logits(tiny.model, written[[row]], frames[[row]])
            torch.testing.assert_close(alone[0], whole[row], rtol=1e-4, atol=1e-4)
    assert torch.equal(whole[:, :-1].argmax(-1), written[:, 1:])


def test_both_layouts_hold_the_same_model(tiny: whisper.Whisper, tmp_path: Path) -> None:
    other = whisper.load_whisper(tiny_whisper.write_ct2(tmp_path, tiny_whisper.random_state()))
    assert other.model.config == tiny.model.config
    ours, theirs = other.model.state_dict(), tiny.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert other.alignment_heads == ((1, 0),)
    assert {1, 2} <= set(other.vocabulary.suppressed)


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    state = tiny_whisper.random_state()
    with pytest.raises(NotFoundError, match=r"config.json"):
        whisper.load_whisper(tmp_path)
    tiny_whisper.write_hf(tmp_path, state | {"model.decoder.bogus.weight": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"decoder.bogus.weight"):
        whisper.load_whisper(tmp_path)
    del state["model.decoder.layer_norm.weight"]
    tiny_whisper.write_hf(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"stack.norm.weight"):
        whisper.load_whisper(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"model.bin"):
        whisper.load_whisper(tmp_path)
    with pytest.raises(CheckpointError, match="quantised"):
        whisper.translate_variables({"decoder/embeddings/weight": torch.zeros(3, 5, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match="'bert'"):
        whisper.read_config({"model_type": "bert"})


def test_shares_sum_to_one_and_weigh_the_values(tiny: whisper.Whisper) -> None:
    heads, ids, frames = ((1, 2), (0, 3), (1, 0)), some_ids(count=7), some_frames()
    with torch.no_grad():
        memory = tiny.model.encode(frames)
        shares, scores = tiny.model.cross_attention(ids, memory, heads)
        torch.testing.assert_close(scores, logits(tiny.model, ids, frames))
    assert shares.shape == (2, 3, 7, tiny_whisper.NUM_POSITIONS)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 3, 7))
    # A head whose keys stand out at one place looks there.
    keys = memory[0].keys
    keys[:, 3] *= 1e-3
    with torch.no_grad():
        flat, _ = tiny.model.cross_attention(ids, memory, heads)
    assert flat[:, 1].std() < 0.1 * shares[:, 1].std()
    torch.testing.assert_close(tiny.model.decoder.stack.blocks[0].memory_attention._forward_pre_hooks, {})


def test_marks_typed_by_a_user_are_text(vocabulary: WhisperVocabulary) -> None:
    ids = vocabulary.encode("<|endoftext|> a frog<|0.00|>")
    assert max(ids) < vocabulary.end
    assert vocabulary.decode(ids) == "<|endoftext|> a frog<|0.00|>"


def test_openings_by_language(vocabulary: WhisperVocabulary) -> None:
    assert set(vocabulary.languages) == set(tiny_whisper.LANGUAGES)
    assert vocabulary.opening("de")[0] == (vocabulary.languages["de"],)
    assert set(vocabulary.opening()[0]) == set(vocabulary.languages.values())
    assert vocabulary.opening("de", is_timed=False)[-1] == (vocabulary.first_time - 1,)
    with pytest.raises(UsageError, match=r"'fr'.*de, en, zh"):
        vocabulary.opening("fr")
    english = WhisperVocabulary(tiny_whisper.tiny_tokenizer().to_str(), 400, is_multilingual=False)
    assert english.opening("en") == []
    with pytest.raises(UsageError, match="'de'"):
        english.opening("de")


def test_words_keep_every_id_and_break_at_spaces(vocabulary: WhisperVocabulary) -> None:
    text = " a naïve frog, 中文 bird."
    ids = vocabulary.encode(text)
    words = vocabulary.words(ids)
    assert [word.text for word in words] == [" a", " naïve", " frog", ",", " 中文", " bird", "."]
    assert [one for word in words for one in word.ids] == ids
    characters = vocabulary.words(vocabulary.encode("中文"), "zh")
    assert [word.text for word in characters] == ["中", "文"]


def test_a_foreign_tokenizer_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        WhisperVocabulary("{}", 99)
    bare = tiny_whisper.Tokenizer(tiny_whisper.models.BPE()).to_str()
    with pytest.raises(CheckpointError, match="endoftext"):
        WhisperVocabulary(bare, 99)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"d_model": None}, "lacks d_model; expected a whole number"),
        ({"d_model": "24"}, "d_model='24'"),
        ({"d_model": 2**31 - 1}, "do not fit"),
        ({"encoder_layers": 0}, "encoder_layers=0"),
        ({"encoder_layers": 10**9}, "encoder_layers is 1000000000, but the weights have 3 encoder layers"),
        ({"decoder_layers": 3}, "decoder_layers is 3, but the weights have 2 decoder layers"),
        ({"decoder_attention_heads": 5}, "num_heads=5 does not divide dim=24"),
        ({"decoder_attention_heads": -4}, "decoder_attention_heads=-4"),
        ({"encoder_ffn_dim": True}, "encoder_ffn_dim=True"),
        ({"max_source_positions": 54}, "do not fit"),
        ({"vocab_size": 7}, "do not fit"),
        ({"vocab_size": [7]}, r"vocab_size=\[7\]"),
        ({"num_mel_bins": 1.5}, "num_mel_bins=1.5"),
        ({"scale_embedding": True}, "scale_embedding=True, which is not supported"),
        ({"activation_function": "relu"}, "activation_function='relu', which is not supported"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({"quantization_config": {}}, r"quantization_config=\{\}"),
        ({"model_type": ["whisper"]}, r"model_type \['whisper'\] is not 'whisper'"),
        ({"is_multilingual": "yes"}, "is_multilingual='yes'; expected true or false"),
        ({"suppress_tokens": "all"}, "suppress_tokens='all'; expected a list of ids"),
        ({"suppress_tokens": [[1]]}, r"suppress_tokens=\[\[1\]\]"),
        ({"begin_suppress_tokens": 220}, "begin_suppress_tokens=220"),
        ({"alignment_heads": [[2, 0]]}, "expected pairs of a block below 2 and a head below 4"),
        ({"alignment_heads": [[0, -1]]}, "expected pairs of"),
        ({"alignment_heads": [[0]]}, "expected pairs of"),
        ({"alignment_heads": {"0": 1}}, "expected pairs of"),
    ],
)
def test_an_odd_value_is_one_line(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    tiny_whisper.write_hf(tmp_path, tiny_whisper.random_state())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=said) as caught:
        whisper.load_whisper(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_of_no_piece_are_suppressed_by_nobody(tmp_path: Path) -> None:
    tiny_whisper.write_hf(tmp_path, tiny_whisper.random_state())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": [-1, 3, 10**9]}))
    kept = whisper.load_whisper(tmp_path).vocabulary.suppressed
    assert 3 in kept
    assert all(0 <= one < tiny_whisper.vocab_size() for one in kept)


@pytest.mark.parametrize("layout", [tiny_whisper.write_hf, tiny_whisper.write_ct2])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(layout, value: float, tmp_path: Path) -> None:
    state = tiny_whisper.random_state()
    state["model.decoder.layers.1.fc1.weight"][3, 5] = value
    with pytest.raises(
        CheckpointError, match=r"'decoder\.stack\.blocks\.1\.mlp\.up\.weight' holds NaN or infinity"
    ):
        whisper.load_whisper(layout(tmp_path, state))


def test_an_output_matrix_of_its_own_is_refused(tmp_path: Path) -> None:
    state = tiny_whisper.random_state()
    embedding = state["model.decoder.embed_tokens.weight"]
    whisper.load_whisper(
        tiny_whisper.write_hf(tmp_path / "a", state | {"proj_out.weight": embedding.clone()})
    )
    with pytest.raises(CheckpointError, match=r"'proj_out\.weight' is not 'model\.decoder\.embed_tokens"):
        whisper.load_whisper(
            tiny_whisper.write_hf(tmp_path / "b", state | {"proj_out.weight": embedding + 1})
        )


def test_a_huge_variable_is_refused_before_it_is_read(tmp_path: Path) -> None:
    tiny_whisper.write_ct2(tmp_path, tiny_whisper.random_state())
    path = tmp_path / "model.bin"
    content = bytearray(path.read_bytes())
    place = content.index(b"encoder/conv1/weight\0") + len(b"encoder/conv1/weight\0") + 1 + 3 * 4 + 1
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="4294967295 bytes expected, fewer left"):
        whisper.load_whisper(tmp_path)
