"""Compiles a chat template as transformers does, in a sandbox.

In: the Jinja text that came with a model. Out: a template through which texts of people go as `TaintedStr`
(`codecs.escaped_text`). Limits: the time and the memory that a template takes are not bounded.
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

from sensorium.codecs.escaped_text import joined
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
    except Exception as error:  # of the parser, of Python's compiler, or of a constant that is worked out
        told = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"the model's chat template does not parse: {told}") from error


class _Generation(Extension):
    """`{% generation %}`: what the assistant writes, marked for training; its content as it stands."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


class _Code(CodeGenerator):
    """Joins by the environment for `~` too."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat(map(str, (")
        for one in node.nodes:
            self.visit(one, frame)
            self.write(", ")
        self.write(")))")


class _Sandbox(ImmutableSandboxedEnvironment):
    code_generator_class = _Code
    concat = staticmethod(joined)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without escapes for HTML; masks are never escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if not ensure_ascii:
        return text
    return "".join(one if one.isascii() or ord(one) >= 0xF0000 else json.dumps(one)[1:-1] for one in text)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)
