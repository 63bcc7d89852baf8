"""Models with damaged bytes and odd values: each loads and scores by numbers, or is refused in one line.

`SENSORIUM_FUZZ_EXAMPLES=N` tries N inputs of each kind instead of a few.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from bounded import BoundedReader, assert_sound
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import gguf_files
import tiny_whisper
from sensorium.codecs.bpe import train_bpe
from sensorium.generation.sampling import Sampling, choose
from sensorium.models.checkpoint import load, save
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained import whisper
from sensorium.models.pretrained.llama import rename
from sensorium.models.pretrained.text_model import TextModel, load_folder, load_gguf

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "15"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="SENSORIUM_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


def check_scores(logits: torch.Tensor) -> None:
    """Fails if an id is chosen by scores that are no numbers; finite weights of 1e38 overflow to such."""
    for row in logits.detach().flatten(0, -2):
        if torch.isnan(row).any() or (row == torch.inf).any():
            choose(row, Sampling(temperature=0.0), [], torch.Generator())  # raises
            raise AssertionError("an id was chosen by scores that are not finite")


def is_finite(model: TextModel) -> str:
    logits = model.model.score(torch.tensor([[3, 5, 7]]) % model.model.config.vocab_size)
    check_scores(logits)
    if model.chat is not None:
        assert model.end_ids is not None
    return str(tuple(logits.shape))


def read_any(path: Path) -> str:
    """Read a model of the kind that its name begins with; a folder of good ones reads them all."""
    kind = path.name.partition("-")[0]
    if kind in READERS:
        return READERS[kind](path)
    return " ".join(READERS[one.name.partition("-")[0]](one) for one in sorted(path.iterdir()))


def read_whisper(path: Path) -> str:
    loaded = whisper.load_whisper(path)
    decoder = loaded.model.decoder
    frames = torch.zeros(1, loaded.model.window_frames, loaded.model.config.encoder.num_mels)
    memory = loaded.model.encode(frames)
    logits = decoder.logits(decoder(decoder.embed(torch.tensor([[1, 2]])), memory=memory))
    check_scores(logits)
    loaded.vocabulary.opening()
    return str(tuple(logits.shape))


def read_run(path: Path) -> str:
    model = load(path)
    assert isinstance(model, JointEmbedding)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    return type(model).__name__


READERS: dict[str, Callable[[Path], str]] = {
    "gguf": lambda path: is_finite(load_gguf(path)),
    "folder": lambda path: is_finite(load_folder(path)),
    "whisper": read_whisper,
    "run": read_run,
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def reader(place: Path) -> Iterator[BoundedReader]:
    (place / "good").mkdir()
    gguf_files.write_model(place / "good" / "gguf-good")
    write_llama(place / "good" / "folder-good")
    tiny_whisper.write_hf(place / "good" / "whisper-hf", tiny_whisper.random_state())
    tiny_whisper.write_ct2(place / "good" / "whisper-ct2", tiny_whisper.random_state())
    towers = {
        "audio": {"encoder": "audio-cnn"},
        "text": {"encoder": "text-gru", "options": {"tokenizer_json": train_bpe(["low lower"] * 9, 270)}},
    }
    save(
        JointEmbedding(JointEmbeddingConfig.model_validate({"towers": towers, "dim": 13})),
        place / "good" / "run-good",
    )
    with BoundedReader("test_fuzz_models:read_any", place / "good") as reader:
        yield reader


def write_llama(folder: Path) -> None:
    tokenizer = train_bpe(["low lower lowest"], 300)
    model = gguf_files.random_model("llama", gguf_files.some_tokenizer().vocab_size)
    sizes = model.config.block
    folder.mkdir()
    values = {
        "model_type": "llama",
        "vocab_size": model.config.vocab_size,
        "hidden_size": sizes.dim,
        "head_dim": sizes.head_dim,
        "num_attention_heads": sizes.num_heads,
        "num_key_value_heads": sizes.num_kv_heads,
        "num_hidden_layers": model.config.depth,
        "intermediate_size": sizes.mlp_dim,
        "max_position_embeddings": 61,
    }
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    save_file(named_by_hugging_face(model), folder / "model.safetensors")


def named_by_hugging_face(model: LanguageModel) -> dict[str, torch.Tensor]:
    theirs = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    parts = [f"self_attn.{one}_proj" for one in "qkvo"] + [
        f"mlp.{one}_proj" for one in ("gate", "up", "down")
    ]
    for layer in range(model.config.depth):
        for part in (*parts, "input_layernorm", "post_attention_layernorm"):
            theirs.append(f"model.layers.{layer}.{part}.weight")
    state = model.state_dict()
    return {name: state[rename(name)].contiguous() for name in theirs}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, 3, 24, 2**31, 2**63, 10**30, -1])
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(
        ["default", "linear", "yarn", "llama3", "dynamic", "silu", "full_attention", "float16"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ROPE = st.dictionaries(
    st.sampled_from(
        [
            "rope_type", "type", "factor", "rope_theta", "original_max_position_embeddings", "beta_fast",
            "beta_slow", "low_freq_factor", "high_freq_factor", "attention_factor", "mscale",
            "mscale_all_dim", "truncate", "partial_rotary_factor", "short_factor", "mrope_section",
            "full_attention",
        ]
    ),
    JSON | st.floats(0, 1e4) | st.sampled_from(["linear", "yarn", "llama3"]),
    min_size=2,
)  # fmt: skip
CONFIG_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
    "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "layer_types", "rope_parameters", "hidden_act", "attention_bias", "mlp_bias", "tie_word_embeddings",
    "quantization_config", "model_type", "architectures", "auto_map", "partial_rotary_factor",
    "sliding_window", "use_sliding_window", "eos_token_id", "bos_token_id", "num_experts", "torch_dtype",
)  # fmt: skip


def damage(content: bytes, kind: str, at: int, value: int) -> bytes:
    """Content with a byte changed, cut, or with eight bytes made a number."""
    place = at % max(len(content), 1)
    if kind == "cut":
        return content[:place]
    if kind == "byte":
        return content[:place] + bytes([value % 256]) + content[place + 1 :]
    return content[:place] + struct.pack("<Q", value) + content[place + 8 :]


DAMAGE = {
    "kind": st.sampled_from(["cut", "byte", "number"]),
    "at": st.integers(0, 1 << 20),
    "value": st.integers(0, 300) | st.sampled_from([2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1]),
}


@FUZZ
@given(is_header=st.booleans(), **DAMAGE)
def test_gguf_bytes(reader, place: Path, is_header: bool, kind: str, at: int, value: int) -> None:
    content = (place / "good" / "gguf-good").read_bytes()
    path = place / "gguf-damaged"
    path.write_bytes(damage(content, kind, at % 1200 if is_header else at, value))
    assert_sound(reader(path))


GGUF_VALUES = (
    st.integers(-(2**31), 2**31 - 1)
    | st.sampled_from([0, 1, 2, 6, 16, 96])
    | st.floats(width=32)
    | st.booleans()
    | st.sampled_from(["", "linear", "yarn", "none", "longrope", "x"])
    | st.lists(st.integers(0, 9), min_size=1, max_size=4)
    | st.lists(st.text(alphabet="ab ", max_size=3), min_size=1, max_size=3)
)
GGUF_KEYS = (
    "llama.context_length", "llama.embedding_length", "llama.block_count", "llama.feed_forward_length",
    "llama.attention.head_count", "llama.attention.head_count_kv", "llama.rope.freq_base",
    "general.alignment",
    "llama.attention.layer_norm_rms_epsilon", "llama.attention.key_length", "llama.attention.value_length",
    "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scale_linear", "llama.vocab_size",
    "llama.rope.scaling.attn_factor", "llama.rope.scaling.original_context_length", "split.count",
    "llama.rope.scaling.finetuned", "llama.rope.dimension_count", "llama.attention.sliding_window",
    "llama.logit_scale", "llama.final_logit_softcapping", "llama.expert_count", "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.ggml.model", "tokenizer.ggml.pre",
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.eot_token_id", "tokenizer.ggml.padding_token_id", "tokenizer.chat_template",
)  # fmt: skip


@FUZZ
@given(changes=st.dictionaries(st.sampled_from(GGUF_KEYS), GGUF_VALUES | st.none(), min_size=1, max_size=3))
def test_gguf_metadata(reader, place: Path, changes: dict[str, object]) -> None:
    tokenizer = gguf_files.some_tokenizer()
    tensors = gguf_files.named_by_llama_cpp(gguf_files.random_model("llama", tokenizer.vocab_size), "llama")
    metadata = {**gguf_files.sizes("llama"), **gguf_files.described(tokenizer)}
    metadata |= {key.replace(".", "__"): value for key, value in changes.items()}
    given_values = {key: value for key, value in metadata.items() if value is not None}
    assert_sound(reader(gguf_files.write(place / "gguf-odd", tensors, **given_values)))


@FUZZ
@given(
    changes=st.dictionaries(st.sampled_from(CONFIG_KEYS), JSON, min_size=1, max_size=2),
    scaling=st.none() | ROPE,
    is_old=st.booleans(),
)
def test_config_json(reader, place: Path, changes: dict, scaling: dict | None, is_old: bool) -> None:
    files = files_of(place / "good" / "folder-good")
    values = json.loads(files["config.json"]) | changes
    if scaling is not None:
        values["rope_scaling" if is_old else "rope_parameters"] = scaling
    files["config.json"] = json.dumps(values).encode()
    assert_sound(reader(write_files(place / "folder-odd", files)))


@FUZZ
@given(
    name=st.sampled_from(["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]),
    is_header=st.booleans(),
    **DAMAGE,
)
def test_folder_bytes(
    reader, place: Path, name: str, is_header: bool, kind: str, at: int, value: int
) -> None:
    files = files_of(place / "good" / "folder-good")
    files[name] = damage(files[name], kind, at % 3000 if is_header else at, value)
    assert_sound(reader(write_files(place / "folder-damaged", files)))


@FUZZ
@given(
    values=st.dictionaries(st.sampled_from(["eos_token_id", "bos_token_id", "max_length"]), JSON, min_size=1)
)
def test_generation_config(reader, place: Path, values: dict) -> None:
    files = files_of(place / "good" / "folder-good") | {"generation_config.json": json.dumps(values).encode()}
    assert_sound(reader(write_files(place / "folder-odd", files)))


INDEXES = JSON | st.dictionaries(
    st.sampled_from(["lm_head.weight", "model.norm.weight", "x"]),
    JSON
    | st.sampled_from(
        ["one.safetensors", "../good/folder-good/model.safetensors", "/dev/zero", "a/b.safetensors", ""]
    ),
    max_size=3,
)


@FUZZ
@given(index=st.fixed_dictionaries({"weight_map": INDEXES}) | JSON)
def test_index_of_shards(reader, place: Path, index: object) -> None:
    files = files_of(place / "good" / "folder-good")
    files["one.safetensors"] = files.pop("model.safetensors")
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    assert_sound(reader(write_files(place / "folder-odd", files)))


HEADERS = st.dictionaries(
    st.sampled_from(["model.embed_tokens.weight", "model.norm.weight", "__metadata__", "x", ""]),
    JSON
    | st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(
                ["F32", "F16", "BF16", "F64", "I8", "I64", "BOOL", "F8_E4M3", "F4", "C64", "X"]
            ),
            "shape": st.lists(st.integers(0, 64) | st.sampled_from([2**40, 2**63]), max_size=4),
            "data_offsets": st.lists(st.integers(0, 999) | st.just(2**63), min_size=2, max_size=2),
        }
    ),
    max_size=3,
)


@FUZZ
@given(header=HEADERS | JSON, data=st.binary(max_size=999), slack=st.integers(-3, 3))
def test_safetensors_header(reader, place: Path, header: object, data: bytes, slack: int) -> None:
    text = json.dumps(header).encode()
    files = files_of(place / "good" / "folder-good")
    files["model.safetensors"] = struct.pack("<Q", max(len(text) + slack, 0)) + text + data
    assert_sound(reader(write_files(place / "folder-odd", files)))


@FUZZ
@given(
    values=st.lists(
        st.floats(width=32) | st.sampled_from([1e38, -3e38, 1e-45, float("nan"), float("inf")]), min_size=1
    ),
    at=st.integers(0, 1 << 16),
)
def test_weights(reader, place: Path, values: list[float], at: int) -> None:
    files = files_of(place / "good" / "folder-good")
    content = bytearray(files["model.safetensors"])
    start = 8 + struct.unpack("<Q", content[:8])[0]
    place_of = start + 4 * (at % ((len(content) - start) // 4 - len(values)))
    content[place_of : place_of + 4 * len(values)] = struct.pack(f"<{len(values)}f", *values)
    assert_sound(reader(write_files(place / "folder-odd", files | {"model.safetensors": bytes(content)})))


WHISPER_KEYS = (
    *(name for name in tiny_whisper.settings() if not name.endswith("token_id")),
    "suppress_tokens", "begin_suppress_tokens", "suppress_ids", "suppress_ids_begin", "alignment_heads",
    "is_multilingual", "scale_embedding", "activation_function", "tie_word_embeddings",
)  # fmt: skip


@FUZZ
@given(
    changes=st.dictionaries(st.sampled_from(WHISPER_KEYS), JSON, min_size=1, max_size=2),
    layout=st.sampled_from(["whisper-hf", "whisper-ct2"]),
    name=st.sampled_from(["config.json", "generation_config.json"]),
)
def test_whisper_settings(reader, place: Path, changes: dict, layout: str, name: str) -> None:
    files = files_of(place / "good" / layout)
    files[name] = json.dumps(json.loads(files.get(name, b"{}")) | changes).encode()
    assert_sound(reader(write_files(place / "whisper-odd", files)))


@FUZZ
@given(
    layout=st.sampled_from(["whisper-hf", "whisper-ct2"]),
    number=st.integers(0, 2),
    is_header=st.booleans(),
    **DAMAGE,
)
def test_whisper_bytes(
    reader, place: Path, layout: str, number: int, is_header: bool, kind: str, at: int, value: int
) -> None:
    files = files_of(place / "good" / layout)
    name = sorted(files)[number]
    files[name] = damage(files[name], kind, at % 900 if is_header else at, value)
    assert_sound(reader(write_files(place / "whisper-damaged", files)))


@FUZZ
@given(name=st.sampled_from(["config.toml", "model.safetensors", "text.tokenizer_json.txt"]), **DAMAGE)
def test_run_bytes(reader, place: Path, name: str, kind: str, at: int, value: int) -> None:
    files = files_of(place / "good" / "run-good")
    files[name] = damage(files[name], kind, at, value)
    assert_sound(reader(write_files(place / "run-damaged", files)))


TOML = st.sampled_from(
    (
        "nan", "-1", "1e400", "[]", "{}", '"x"', "1979-05-27", "07:32:00", "true", '"file:"', '"file:.."',
        "0.5", "[[[1]]]", "9" * 30, '"file:/dev/zero"', '"file:config.toml"',
    )
)  # fmt: skip


@FUZZ
@given(line=st.integers(0, 40), value=TOML)
def test_config_toml(reader, place: Path, line: int, value: str) -> None:
    files = files_of(place / "good" / "run-good")
    lines = files["config.toml"].decode().splitlines()
    key, equals, _ = lines[line % len(lines)].partition(" = ")
    lines[line % len(lines)] = f"{key}{equals}{value}" if equals else f"x = {value}"
    files["config.toml"] = "\n".join(lines).encode()
    assert_sound(reader(write_files(place / "run-odd", files)))
