"""Compiles chat templates as transformers does, in a Jinja sandbox.

The template concatenates `EscapedStr` (`codecs.escaped_text`) without loss of its type. Time and memory of a
template are not limited.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sensorium.codecs.escaped_text import concatenate
from sensorium.core.errors import CheckpointError


def compile_template(source: str) -> Template:
    """Compile a template.

    Raises:
        CheckpointError: If it does not parse.
    """
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], cache_size=0
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    try:
        return environment.from_string(source)
    except Exception as error:  # of the parser, of Python's compiler, or while a constant is folded
        told = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"the model's chat template does not parse: {told}") from error


class _Generation(Extension):
    """`{% generation %}`: marks answers for training; here its content is rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


class _Code(CodeGenerator):
    """Makes the operator `~` use the environment's `concat`."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat(map(str, (")
        for one in node.nodes:
            self.visit(one, frame)
            self.write(", ")
        self.write(")))")


class _Sandbox(ImmutableSandboxedEnvironment):
    code_generator_class = _Code
    concat = staticmethod(concatenate)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML escapes; private-use characters, by which texts are escaped, are kept."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if not ensure_ascii:
        return text
    return "".join(one if one.isascii() or ord(one) >= 0xF0000 else json.dumps(one)[1:-1] for one in text)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)
