"""Fuzzes tokenizers and chat templates: a value or one line of a `SensoriumError`, within 512 MB and 10 s.

`SENSORIUM_FUZZ_EXAMPLES=N` gives each test N examples.
"""

import copy
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import bounded
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.codecs import Bpe, Chat, Message, train_bpe
from sensorium.codecs.chat import ids_of
from sensorium.models.pretrained import chat_format

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "25"))
bounded_run = settings(
    max_examples=EXAMPLES,
    derandomize="SENSORIUM_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SAID = [
    Message("system", "be <end>"),
    Message("user", "a </think> low"),
    Message("assistant", "<think>x</think>y"),
]
ODD: list[Any] = [
    None, True, -1, 0, 3, 2**31, 2**64, 1.5, 1e308, "", "a", "<end>", "\udcff", "Ġlow",
    [], [[]], ["a"], {}, {"a": 1}, {"type": "ByteLevel"}, {"type": "Sequence"},
    {"String": ""}, {"Regex": "("}, {"Regex": "(a|aa)+$"}, "[" * 300,
]  # fmt: skip


@cache
def good() -> dict[str, Any]:
    """A folder's files as one JSON value."""
    return {
        "tokenizer": json.loads(train_bpe(["low lower lowest </think>"] * 3, 280)),
        "settings": {
            "bos_token": "<start>",
            "eos_token": {"content": "<end>"},
            "chat_template": [{"name": "default", "template": "{{ messages[0].content }}{{ eos_token }}"}],
            "additional_special_tokens": ["<pad>"],
            "added_tokens_decoder": {"0": {"content": "<pad>"}},
        },
        "special": {"unk_token": "<pad>"},
        "generation": {"eos_token_id": [2, 3]},
        "metadata": {
            "tokenizer.ggml.tokens": ["a", "<end>"],
            "tokenizer.ggml.eos_token_id": 1,
            "tokenizer.chat_template": "{{ messages }}",
        },
    }


def read_settings(path: Path) -> tuple[int, ...]:
    """Reads a folder's settings and converses by them."""
    files = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    of_gguf = chat_format.of_metadata(files["metadata"])
    found = chat_format.of_folder(
        path.parent, files["settings"], files["special"], {"generation": files["generation"]}
    )
    bpe = Bpe(json.dumps(files["tokenizer"]), special=found.special)
    for one in (of_gguf, found):
        chat = one.chat(bpe)
        assert all(0 <= end < bpe.vocab_size for end in one.all_ends(bpe, chat))
        check(bpe, chat)
    return tuple(bpe.encode("low < grün"))


def read_tokenizer(path: Path) -> int:
    """Reads bytes as a tokenizer file."""
    bpe = Bpe.load(path)
    check(bpe, None)
    return bpe.vocab_size


def read_template(path: Path) -> int:
    """Renders a template over a conversation."""
    bpe = Bpe(train_bpe(["low lower lowest </think>"] * 3, 280))
    chat = Chat(bpe, path.read_text(encoding="utf-8", errors="surrogatepass") or "-", {"eos_token": "<end>"})
    assert chat.turn_end is None or chat.turn_end in bpe.special_ids.values()
    check(bpe, chat)
    return len(ids_of(chat.encode(SAID)))


def check(bpe: Bpe, chat: Chat | None) -> None:
    """Ids are ids, decoding gives a text, and what is typed is no special token."""
    for text in ("low lower", "<end> grün\n", "<pad>"):
        ids = bpe.encode(text, with_special=False)
        assert all(0 <= one < bpe.vocab_size for one in ids)
        assert isinstance(bpe.decode(ids), str)
    if chat is not None:
        assert all(0 <= one < bpe.vocab_size for one in ids_of(chat.encode(SAID)))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values within a JSON value, few of a long one."""
    yield at
    inner = list(
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, one in [*inner[:12], *inner[-3:]] if len(inner) > 20 else inner:
        yield from places(one, (*at, key))


PLACES = sorted({place for place in places(good()) if len(place) > 1}, key=repr)
CHANGES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from([*ODD, "drop", "copy"])), min_size=1, max_size=3
)


def mutated(changes: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    """The good files with values exchanged, dropped or put twice."""
    files = copy.deepcopy(good())
    for (*parents, leaf), new in changes:
        try:
            holder: Any = files
            for key in parents:
                holder = holder[key]
            if new == "drop":
                del holder[leaf]
            elif new == "copy":
                holder.insert(0, holder[leaf]) if isinstance(holder, list) else holder.update(
                    {"copy": holder[leaf]}
                )
            else:
                holder[leaf] = new
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took it away
    return files


ATOMS = """
messages m m.content m.role eos_token bos_token '' '</think>' '<' 0 -1 9999 none true loop.index ns range(3)
tools add_generation_prompt strftime_now('%Y') strftime_now('%') raise_exception('no') dict(a=1)
namespace(a=1)
''.__class__ cycler('a') joiner()
""".split()
OPERATORS = ["+", "-", "~", "in", "not in", "==", "<", "and", "or", "%", "//", "/", "is", "*", "if true else"]
SUFFIXES = """
|trim |tojson |tojson(ensure_ascii=true) |length |upper |int |list |first |join('<') |safe |e |batch(2) |sort
|map(attribute='content') |items |dictsort |random |format(1) |indent |wordwrap |title |center(20) |round |sum
|unique |groupby('role') |slice(2) |xmlattr .strip() .split() .split('>') [0] [-1] [1:] [::-1] .content
.encode() .format(m) .upper() () ['content'] .items() .replace('a',eos_token) .partition('<') .append(1)
.splitlines()
.translate({60:'x'}) .join(['a',m.content])
""".split()
EXPRESSIONS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(OPERATORS), inner),
        st.builds("{}{}".format, inner, st.sampled_from([*SUFFIXES, " is string", " is defined"])),
    ),
    max_leaves=5,
)
PIECES = ["<end>", "{%", "{{", "#}", "{% break %}", "{% endfor %}", "{% include 'a' %}", "{% raw %}"]
BLOCKS = st.recursive(
    st.one_of(
        st.builds("{{{{ {} }}}}".format, EXPRESSIONS),
        st.text(alphabet="<|end>{}%#-'\n\udcffé", max_size=5),
        st.sampled_from(PIECES),
    ),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("{{%- for m in {} %}}{}{{% endfor -%}}".format, EXPRESSIONS, inner),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, EXPRESSIONS, inner, inner),
        st.builds("{{% set x = {} %}}{}{{{{ x }}}}".format, EXPRESSIONS, inner),
        st.builds("{{% set x %}}{}{{% endset %}}{{{{ x.strip() }}}}".format, inner),
        st.builds("{{% macro f(m) %}}{}{{% endmacro %}}{{{{ f({}) }}}}".format, inner, EXPRESSIONS),
        st.builds("{{% generation %}}{}{{% endgeneration %}}".format, inner),
        st.builds("{{% filter upper %}}{}{{% endfilter %}}".format, inner),
    ),
    max_leaves=6,
)
LARGE = [
    *("{{ '" + text + "' }}" for text in ("a" * 10**6, "{" * 10**5)),
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{% if 1 %}" * 300 + "{% endif %}" * 300,
    "{% for a in 'b' %}" * 60 + "x" + "{% endfor %}" * 60,
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ range(10 ** 9) }}",
    "{{ [1] * 3000 }}{{ 'a'.__class__ }}",
    "{{ " + " + ".join(["1"] * 5000) + " }}",
    "{% set ns = namespace(x='a') %}"
    "{% for i in range(20) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{{ messages" + "|list" * 2000 + " }}",
    "{{ cycler(*range(10)).next() }}{{ lipsum(1) }}",
]


def read(path: Path) -> object:
    """Reads a file as what its ending says."""
    return {".json": read_tokenizer, ".jinja": read_template, ".files": read_settings}[path.suffix](path)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bounded.BoundedReader]:
    warm_up = tmp_path_factory.mktemp("tokenizers") / "good.files"
    warm_up.write_text(json.dumps(good()))
    with bounded.BoundedReader("test_fuzz_tokenizers:read", warm_up) as made:
        yield made


def assert_sound(read: bounded.BoundedReader, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    bounded.assert_sound(read(path))


@bounded_run
@given(changes=CHANGES)
def test_settings(reader: bounded.BoundedReader, tmp_path: Path, changes: list) -> None:
    assert_sound(reader, tmp_path / "a.files", json.dumps(mutated(changes)).encode())


@bounded_run
@given(cut=st.integers(0, 5000), place=st.integers(0, 5000), new=st.binary(max_size=4))
def test_tokenizer_bytes(
    reader: bounded.BoundedReader, tmp_path: Path, cut: int, place: int, new: bytes
) -> None:
    data = json.dumps(good()["tokenizer"]).encode()
    data = data[:place] + new + data[place + len(new) :]
    assert_sound(reader, tmp_path / "a.json", data[: len(data) - max(cut - 2500, 0)])


@bounded_run
@given(template=BLOCKS)
def test_templates(reader: bounded.BoundedReader, tmp_path: Path, template: str) -> None:
    assert_sound(reader, tmp_path / "a.jinja", template.encode(errors="surrogatepass"))


@pytest.mark.parametrize("number", range(len(LARGE)))
def test_large_templates(reader: bounded.BoundedReader, tmp_path: Path, number: int) -> None:
    assert_sound(reader, tmp_path / "a.jinja", LARGE[number].encode())
