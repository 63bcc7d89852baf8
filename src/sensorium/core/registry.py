"""Registries map names to builder functions of encoders, losses, sources, commands and other parts.

A plug-in package adds builders through the entry-point group `sensorium.<kind>`, such as `sensorium.encoder`.
The names of entry points are read when a name is not built in, or when all are listed. The code of an entry
point is imported when its name is requested. See docs/guides/plug-ins.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from sensorium.core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
Builder = TypeVar("Builder", bound=Callable[..., object])


class Registry(Generic[T]):
    """Named builders of one kind.

    Example:
        >>> shapes: Registry[int] = Registry("shape")
        >>> @shapes.register("square")
        ... def square(side: int) -> int:
        ...     return side * side
        >>> shapes.build("square", side=3)
        9
        >>> shapes.build("sqare")
        Traceback (most recent call last):
        ...
        sensorium.core.errors.NotFoundError: unknown shape 'sqare'; did you mean 'square'? known: square
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._builders: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """Return a decorator that registers a builder under `name`; UsageError if the name is taken."""

        def add(builder: Builder) -> Builder:
            if name in self._builders:
                raise UsageError(f"{self.kind} '{name}' is registered twice; choose another name")
            self._builders[name] = builder  # type: ignore[assignment]
            return builder

        return add

    def get(self, name: str) -> Callable[..., T]:
        """Return the builder of `name`.

        Raises:
            NotFoundError: If the name is unknown; the message suggests the nearest one.
            UsageError: If a plug-in does not import.
        """
        if name not in self._builders:
            if name not in self._plugins:
                near = difflib.get_close_matches(name, list(self), n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ";"
                raise NotFoundError(f"unknown {self.kind} '{name}'{hint} known: {', '.join(self) or 'none'}")
            self._builders[name] = self._loaded(self._plugins[name])
        return self._builders[name]

    def build(self, name: str, /, **options: object) -> T:
        """Call the builder of `name` with `options`.

        Raises:
            NotFoundError: If the name is unknown.
            UsageError: If the builder does not accept one of the options.
        """
        builder = self.get(name)
        try:
            return builder(**options)
        except TypeError as error:
            if "keyword argument" in str(error) or "positional argument" in str(error):
                raise UsageError(f"{self.kind} '{name}': {error}") from error
            raise

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._builders, *self._plugins}))

    def __contains__(self, name: str) -> bool:
        return name in self._builders or name in self._plugins

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points  # takes 25 ms, which most commands do not need

        return {entry.name: entry for entry in entry_points(group=f"sensorium.{self.kind}")}

    def _loaded(self, entry: EntryPoint) -> Callable[..., T]:
        try:
            found: Callable[..., T] = entry.load()
        except (ImportError, AttributeError) as error:
            package = entry.dist.name if entry.dist else entry.module
            raise UsageError(f"{self.kind} '{entry.name}' of package {package} fails: {error}") from error
        return found
