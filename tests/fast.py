"""Which tests `make test-fast` runs: the first case of each test function, unless `not_fast.txt` lists it.

`python tests/fast.py REPORT.xml...` writes that list from JUnit reports of a whole run (`pytest --junitxml`):
test functions whose first case took more than `MAX_S` on two busy cores.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest

LIST = Path(__file__).with_name("not_fast.txt")
MAX_S = 0.1


def fast(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The tests that `make test-fast` runs."""
    slow, first = set(LIST.read_text().split()), {}
    for item in items:
        first.setdefault(f"{item.path.stem}::{item.name.split('[')[0]}", item)
    marks = ("slow", "network")
    return [
        one for name, one in first.items() if name not in slow and not any(map(one.get_closest_marker, marks))
    ]


def main(reports: Iterable[str]) -> None:
    first: dict[str, float] = {}
    for report in reports:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            module = next(part for part in case.attrib["classname"].split(".") if part.startswith("test_"))
            first.setdefault(f"{module}::{case.attrib['name'].split('[')[0]}", float(case.attrib["time"]))
    LIST.write_text("".join(f"{name}\n" for name, took_s in sorted(first.items()) if took_s > MAX_S))


if __name__ == "__main__":
    main(sys.argv[1:])
