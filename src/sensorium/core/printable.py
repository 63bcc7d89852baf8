"""Escape untrusted text for terminals, HTML pages and UTF-8 files.

Input: any `str`, such as a caption, a file name or model output. Output: a text without control characters,
bidirectional overrides and surrogates. These are replaced by Python escapes, so the text cannot move the
cursor, change colours or reverse the reading direction.
"""

import re

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Escape control characters (except tab and newline), bidirectional overrides and surrogates.

    Example:
        >>> visible("a\x1b[31mfrog\udce9"), visible("a\tb\nc")
        ('a\\x1b[31mfrog\\udce9', 'a\tb\nc')
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    r"""Escape as `visible` does, and replace each run of white space by one space.

    Example:
        >>> one_line("a\tfrog\r\n\x1b[2J")
        'a frog \\x1b[2J'
    """
    return visible(" ".join(text.split()))


def json_safe(text: str) -> str:
    r"""Escape the characters that `visible` escapes, as JSON escapes.

    Example:
        >>> json_safe('["\x9b31m"]')
        '["\\u009b31m"]'
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
