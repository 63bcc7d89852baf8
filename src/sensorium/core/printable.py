"""Text of strangers on its way to a terminal, a page or a file that is UTF-8.

In: any `str`, such as a caption, a file name that is no UTF-8 or what a model wrote. Out: one that moves no
cursor, changes no colour, turns no line round and can be encoded: what could is written as Python escapes it.
"""

import re

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""A text without control characters (but tabs and line breaks), bidirectional overrides and surrogates.

    Example:
        >>> visible("a\x1b[31mfrog\udce9"), visible("a\tb\nc")
        ('a\\x1b[31mfrog\\udce9', 'a\tb\nc')
    """
    return _UNSAFE.sub(lambda found: _escape(found[0]), text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    r"""The same on one line: any run of white space is a space.

    Example:
        >>> one_line("a\tfrog\r\n\x1b[2J")
        'a frog \\x1b[2J'
    """
    return visible(" ".join(text.split()))


def json_safe(text: str) -> str:
    r"""JSON whose strings hold what `visible` takes out as JSON escapes it.

    Example:
        >>> json_safe('["\x9b31m"]')
        '["\\u009b31m"]'
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
