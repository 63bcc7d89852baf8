"""Spell numbers in a text as English words, by num2words.

Input: a text. Output: the text with integers and decimals as words. Signs before a number stay as they are.
"""

from __future__ import annotations

import re

from sensorium.core.runtime import require

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_NOT_IN_WORDS = re.compile(r"-|,| and ")


def spell_numbers(text: str) -> str:
    """Replace the numbers of a text by words, with a space on both sides of each.

    Example:
        >>> spell_numbers("room 12B")
        'room  twelve B'
    """
    return _NUMBER.sub(lambda found: f" {spell_number(found[0])} ", text)


def spell_number(digits: str) -> str:
    """Spell a number in English, without "and"; with a leading 0 and from 10^15 on, digit by digit.

    Raises:
        MissingExtraError: If num2words is not installed.

    Example:
        >>> [spell_number(digits) for digits in ("0", "17", "342", "1,000,021", "2.50")]
        ['zero', 'seventeen', 'three hundred forty two', 'one million twenty one', 'two point five zero']
    """
    whole, point, decimals = digits.replace(",", "").partition(".")
    spell = require("num2words", "evals").num2words
    is_plain = len(whole) <= 15 and (len(whole) == 1 or whole[0] != "0")
    parts = [*([whole] if is_plain else whole), *decimals]
    words = [" ".join(_NOT_IN_WORDS.sub(" ", spell(int(part))).split()) for part in parts]
    if point:
        words.insert(len(words) - len(decimals), "point")
    return " ".join(words)
