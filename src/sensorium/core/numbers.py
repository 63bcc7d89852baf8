"""Spell numbers in a text as English words.

Input: a text. Output: the text with integers and decimals as words. Signs before a number stay as they are.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_DIGITS = "zero one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_THOUSANDS = ("", "thousand", "million", "billion", "trillion")


def spell_numbers(text: str) -> str:
    """Replace the numbers of a text by words, with a space on both sides of each.

    Example:
        >>> spell_numbers("room 12B")
        'room  twelve B'
    """
    return _NUMBER.sub(lambda found: f" {spell_number(found[0])} ", text)


def spell_number(digits: str) -> str:
    """Spell a number in English; from 10^15 on, digit by digit.

    Example:
        >>> [spell_number(digits) for digits in ("0", "17", "342", "1,000,021", "2.50")]
        ['zero', 'seventeen', 'three hundred forty two', 'one million twenty one', 'two point five zero']
    """
    whole, point, decimals = digits.replace(",", "").partition(".")
    if len(whole) > 15 or (len(whole) > 1 and whole[0] == "0"):
        words = [_DIGITS[int(digit)] for digit in whole]
    else:
        words = _spell(int(whole)) or ["zero"]
    if point:
        words += ["point", *(_DIGITS[int(digit)] for digit in decimals)]
    return " ".join(words)


def _spell(number: int) -> list[str]:
    words: list[str] = []
    for place in reversed(range(len(_THOUSANDS))):
        part = number // 1000**place % 1000
        if part:
            words += [*_spell_hundreds(part), *([_THOUSANDS[place]] if place else [])]
    return words


def _spell_hundreds(number: int) -> list[str]:
    words = [_DIGITS[number // 100], "hundred"] if number >= 100 else []
    rest = number % 100
    if rest >= 20:
        words.append(_TENS[rest // 10 - 2])
        rest %= 10
    if rest >= 10:
        words.append(_TEENS[rest - 10])
    elif rest:
        words.append(_DIGITS[rest])
    return words
