"""Registries map names to builder functions of encoders, losses, heads and sources.

A plug-in package adds builders through the entry-point group `sensorium.<kind>`, such as `sensorium.encoder`.
Entry points are loaded when a name is requested that is not built in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from sensorium.core.errors import NotFoundError, UsageError

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
        self._plugins_read = False

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """Return a decorator that registers a builder under `name`.

        Raises:
            UsageError: If `name` is already registered.
        """

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
        """
        if name not in self._builders:
            self._read_plugins()
        if name not in self._builders:
            near = difflib.get_close_matches(name, self._builders, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ";"
            raise NotFoundError(
                f"unknown {self.kind} '{name}'{hint} known: {', '.join(sorted(self._builders))}"
            )
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
        return iter(sorted(self._builders))

    def __contains__(self, name: str) -> bool:
        return name in self._builders

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for entry in entry_points(group=f"sensorium.{self.kind}"):
            self._builders.setdefault(entry.name, entry.load())
