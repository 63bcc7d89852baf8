"""Draws which package imports which, from the code, and refuses circles.

    python docs/draw_imports.py            # writes docs/images/imports.svg
    python docs/draw_imports.py --check    # exit 1 if the picture is old or modules import in a circle

Rows are the layers of `pyproject.toml`. An arrow goes down from a package to one that it imports; arrows that
follow from others are left out. Imports inside functions count, those for type checking alone do not.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sensorium"
PICTURE = ROOT / "docs" / "images" / "imports.svg"
WIDTH_PX, ROW_PX, BOX_PX, HEIGHT_PX = 960, 78, 124, 34

Graph = dict[str, set[str]]


def main() -> None:  # noqa: D103
    modules = module_graph()
    refuse_circles(modules)
    text = draw(layers(), package_graph(modules))
    if "--check" not in sys.argv:
        PICTURE.write_text(text)
    elif PICTURE.read_text() != text:
        sys.exit(f"{PICTURE.relative_to(ROOT)} is older than the code; run: python docs/draw_imports.py")


def module_graph() -> Graph:
    """Every module with the modules of ours that it imports."""
    names = {_name(path): path for path in SOURCE.rglob("*.py")}
    return {
        name: {one for one in _imported(ast.parse(path.read_text()), names) if one != name}
        for name, path in sorted(names.items())
    }


def _name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def _imported(tree: ast.AST, names: Mapping[str, Path]) -> Iterator[str]:
    for node in _without_type_checking(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield from ({whole, node.module} & names.keys() if whole not in names else {whole})
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)


def _without_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _without_type_checking(node)


def refuse_circles(modules: Graph) -> None:
    """Leave with one line if modules import each other in a circle."""
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        sys.exit(f"modules import in a circle: {' > '.join(reversed(error.args[1]))}")


def package_graph(modules: Graph) -> Graph:
    """Packages with the packages that their modules import."""
    found: Graph = {}
    for name, imported in modules.items():
        own = found.setdefault(_package(name), set())
        own |= {_package(one) for one in imported} - {_package(name)}
    return {name: imported - {""} for name, imported in found.items() if name}


def _package(module: str) -> str:
    parts = module.split(".")
    is_package = len(parts) > 1 and (SOURCE / parts[1]).is_dir()
    return parts[1] if is_package else ""


def layers() -> list[list[str]]:
    """Packages of each layer, from the top, as the linter of imports holds them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lines = next(one["layers"] for one in contracts if one["type"] == "layers")
    rows = [[name.strip(" ()") for name in line.split("|")] for line in lines]
    return [row for row in ([name for name in row if (SOURCE / name).is_dir()] for row in rows) if row]


def draw(rows: list[list[str]], graph: Graph) -> str:
    """The picture as SVG."""
    places = {
        name: (round(WIDTH_PX * (place + 0.5) / len(row)), round(ROW_PX * (number + 0.5)))
        for number, row in enumerate(rows)
        for place, name in enumerate(row)
    }
    arrows = [
        _arrow(places[name], places[one])
        for name in places
        for one in sorted(_direct(graph, name) & places.keys())
    ]
    boxes = [_box(name, *places[name]) for name in places]
    height = ROW_PX * len(rows)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" role="img">',
            "<title>Imports between packages, from the code</title>",
            f'<rect width="{WIDTH_PX}" height="{height}" fill="#ffffff"/>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#5b6b7b"/></marker></defs>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


def _direct(graph: Graph, name: str) -> set[str]:
    """Packages that `name` imports and that none of the others it imports leads to."""
    return {
        one for one in graph[name] if not any(one in _below(graph, other) for other in graph[name] - {one})
    }


def _below(graph: Graph, name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph.get(name, ()))
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += graph.get(one, ())
    return found


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x0, y0), (x1, y1) = start, end
    y0, y1 = y0 + HEIGHT_PX // 2, y1 - HEIGHT_PX // 2
    bend = (y1 - y0) // 2
    path = f"M{x0},{y0} C{x0},{y0 + bend} {x1},{y1 - bend} {x1},{y1}"
    return f'<path d="{path}" fill="none" stroke="#5b6b7b" stroke-width="1.2" marker-end="url(#tip)"/>'


def _box(name: str, x: int, y: int) -> str:
    left, top = x - BOX_PX // 2, y - HEIGHT_PX // 2
    return (
        f'<rect x="{left}" y="{top}" width="{BOX_PX}" height="{HEIGHT_PX}" rx="6" fill="#eef3f8" '
        f'stroke="#33475b"/><text x="{x}" y="{y + 5}" text-anchor="middle" font-family="sans-serif" '
        f'font-size="15" fill="#1b2733">{name}</text>'
    )


if __name__ == "__main__":
    main()
