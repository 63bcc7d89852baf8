"""An escaped text behaves like the original, and everything made from it stays escaped."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sensorium.codecs.escaped_text import EscapedStr, EscapeTable, escape, unescape
from sensorium.codecs.template import compile_template

ESCAPES = {ord(one): chr(0xF0000 + place) for place, one in enumerate("<|>/think ẞ")}
TABLE = EscapeTable(ESCAPES, {ord(new): chr(one) for one, new in ESCAPES.items()})
TEXTS = st.text(alphabet="<|>/think \n\taẞ{}%'\"", max_size=12)
CALLS = [
    "t.split(a)", "t.split()", "t.split(a, 1)", "t.rsplit(a, 1)", "t.rsplit(None, 1)", "t.splitlines()",
    "t.splitlines(True)", "t.partition(a)", "t.rpartition(a)", "t.strip()", "t.strip(a)", "t.lstrip(a)",
    "t.rstrip(a)", "t.rstrip()", "t.removeprefix(a)", "t.removesuffix(a)", "t.replace(a, b)",
    "t.replace(a, b, 1)", "t.replace('', b)", "t.startswith(a)", "t.endswith((a, b))", "t.find(a)",
    "t.rfind(a, 1)", "t.count(a)", "t.upper()", "t.title()", "t.swapcase()", "t.join([a, b])",
    "a.join([t, b])", "a + t + b", "t + t", "a in t", "t == a", "a == t", "t != a", "{t: 1}.get(a)",
    "t[1:]", "t[::-1]", "list(t)", "len(t)", "t < a", "t * 2", "t.center(9)", "t.isspace()",
    "t.islower()", "repr(t)", "sorted([a, t, b])", "t.expandtabs(3)",
]  # fmt: skip


def shown(value: object) -> object:
    """The original value."""
    if isinstance(value, str):
        return str.__str__(value).translate(TABLE.unescape)
    return [shown(one) for one in value] if isinstance(value, list | tuple) else value


def pieces(value: object) -> list[str]:
    if isinstance(value, str):
        return [str.__str__(value)]
    return [one for part in value for one in pieces(part)] if isinstance(value, list | tuple) else []


@settings(deadline=None, max_examples=25)
@given(text=TEXTS, a=TEXTS, b=TEXTS)
@pytest.mark.parametrize("call", CALLS)
def test_methods_behave_as_on_the_original(call: str, text: str, a: str, b: str) -> None:
    def outcome(t: str) -> object:
        try:
            value = eval(call, {"t": t, "a": a, "b": b})
            return list(value) if isinstance(value, tuple) else value
        except (ValueError, IndexError) as error:
            return type(error)

    assert shown(outcome(escape(text, TABLE))) == outcome(text)


@settings(deadline=None, max_examples=25)
@given(text=TEXTS)
@pytest.mark.parametrize("call", CALLS)
def test_results_stay_escaped(call: str, text: str) -> None:
    a, b = "-", "="
    try:
        made = eval(call, {"t": escape(text, TABLE), "a": a, "b": b})
    except ValueError:
        return
    assert not any(set("<|>/think") & set(one) for one in pieces(made))


TEMPLATES = [
    "{{ t ~ 'x' }}", "{{ 'x' ~ t }}", "{{ t | trim }}", "{{ t | upper }}", "{{ t | replace('a', 'b') }}",
    "{{ t | length }}", "{% set s %}{{ t }}{% endset %}{{ s.split('<') }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ '<|>' in m(t) }}", "{{ '</think>' in t ~ '' }}",
    "{% if t == '<' %}1{% endif %}", "{{ '%s' % t }}", "{{ '{}'.format(t) }}", "{{ [t, t] }}",
    "{{ [t] | join('<') }}", "{{ t | first }}", "{{ t | list }}", "{{ {'a': t} }}",
    "{% for c in t %}{{ c == '<' }}{% endfor %}", "{% filter upper %}{{ t }}{% endfilter %}",
    "{% call m(t) %}{% endcall %}{% macro m(x) %}{{ x.strip() }}{% endmacro %}", "{{ t | indent }}",
    "{{ t | default('x') }}",
]  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(text=TEXTS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_give_the_text_that_jinja_gives(template: str, text: str) -> None:
    right = ImmutableSandboxedEnvironment().from_string(template)
    try:
        wanted = right.render(t=text)
    except Exception as error:
        with pytest.raises(type(error)):
            compile_template(template).render(t=escape(text, TABLE))
        return
    assert shown(compile_template(template).render(t=escape(text, TABLE))) == wanted


@settings(deadline=None, max_examples=25)
@given(text=TEXTS, is_ascii=st.booleans())
def test_json_gives_the_text_back(text: str, is_ascii: bool) -> None:
    made = compile_template("{{ {'a': t} | tojson(ensure_ascii=b) }}").render(
        t=escape(text + "é", TABLE), b=is_ascii
    )
    assert json.loads(str(shown(made))) == {"a": text + "é"}


def test_without_masks_it_is_a_text() -> None:
    assert unescape(EscapedStr("a<") + "b") == "a<b"
    assert "{}<".format(EscapedStr("x")) == "x<"
