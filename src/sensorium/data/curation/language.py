"""Language identification of captions: by script, and for the Latin script by function words.

Input: a text. Output: a language code, or "" if unknown. Limits: a caption without function words ("red car")
stays unknown, and of languages that share a script only the listed ones are separated.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set
from types import MappingProxyType

_SCRIPTS = MappingProxyType(
    dict(
        pair.split(":")
        for pair in (
            "HIRAGANA:ja KATAKANA:ja HANGUL:ko CJK:zh GREEK:el HEBREW:he THAI:th DEVANAGARI:hi BENGALI:bn "
            "TAMIL:ta TELUGU:te GUJARATI:gu KANNADA:kn MALAYALAM:ml GURMUKHI:pa SINHALA:si GEORGIAN:ka "
            "ARMENIAN:hy KHMER:km LAO:lo MYANMAR:my TIBETAN:bo ETHIOPIC:am ARABIC:ar CYRILLIC:ru LATIN:"
        ).split()
    )
)
"""The most common language of each script; the key is the first word of the characters' Unicode names."""

_LATIN_LETTERS = (
    ("vi", "đơưạảấầẩậắằẳặẹẻẽếềểệịọỏốồổộớờởợụủứừửựỳỵ"),
    ("de", "ß"),
    ("es", "ñ¿¡"),
    ("pt", "ãõ"),
    ("pl", "łśźżń"),
    ("cs", "řěů"),
    ("hu", "őű"),
    ("tr", "ğış"),
    ("ro", "ășț"),
    ("eo", "ĉĝĥĵŝŭ"),
)
"""Latin letters that few languages use: evidence, not proof."""

_LETTERS = (("uk", "іїєґ"), ("be", "ў"), ("sr", "ђћџљњј"), ("fa", "پچژگ"), ("ur", "ٹڈڑے"))
"""Letters that separate a language from the most common one of its script."""

_STOP_WORDS = MappingProxyType(
    {
        "en": "a an the of and with in on is are to for it its this that from by at has his her their",
        "fr": "le la les un une des du et dans sur est sont avec pour au aux ce cette qui en se il elle d l",
        "de": "der die das ein eine einen einem einer und mit im in auf ist sind zu von den dem am vor für",
        "es": "el la los las un una unos unas y en con de del es son para por al que se su está",
        "pt": "o a os as um uma uns umas e em com de do da dos das no na é são para por ao que está",
        "it": "il lo la i gli le un uno una e in con di del della dei è sono per al che si su nel",
        "nl": "de het een en in op van met is zijn voor aan naar bij dat die er niet te",
        "sv": "en ett och i på med är som av för till den det att från",
        "da": "en et og i på med er som af for til den det at fra ikke",
        "nb": "en ei et og i på med er som av for til den det å fra ikke",
        "fi": "ja on ei se että joka kanssa oli hän ovat myös",
        "pl": "i w z na jest się do nie to że przez dla od po są",
        "cs": "a v z na je se do to že pro od po jsou s k u",
        "hu": "a az egy és van nem hogy is ez meg fel",
        "ro": "un o și în cu de la este sunt pe care din pentru al lui",
        "tr": "bir ve bu ile için de da olan çok gibi",
        "id": "yang dan di ini itu dengan untuk dari pada adalah seekor sebuah",
        "vi": "một và của là trong con cái có những với trên được người",
        "eo": "la kaj de en estas kun por al sur ĝi",
    }
)
_VOTES: dict[str, tuple[str, ...]] = {}
for _language, _words in _STOP_WORDS.items():
    for _word in _words.split():
        _VOTES[_word] = (*_VOTES.get(_word, ()), _language)

_UNSPACED = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"})
_WORD = re.compile(r"[^\W\d_]+")


def detect_language(text: str) -> str:
    """Return the language code of `text`, or "" if unknown.

    Example:
        >>> [detect_language(text) for text in ("the red car", "ein rotes Auto", "红色的汽车", "car")]
        ['en', 'de', 'zh', '']
    """
    scripts = Counter(_script(char) for char in text if char.isalpha())
    scripts.pop("", None)
    if not scripts:
        return ""
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:
        return "ja"
    script = scripts.most_common(1)[0][0]
    if script == "LATIN":
        return _by_words(text)
    lowered = text.lower()
    others = (language for language, letters in _LETTERS if any(letter in lowered for letter in letters))
    return next(others, _SCRIPTS[script]) if script in ("CYRILLIC", "ARABIC") else _SCRIPTS[script]


def count_words(text: str) -> int:
    """Return the number of words; in scripts without spaces each character counts as one.

    Example:
        >>> count_words("a red car"), count_words("红色的汽车")
        (3, 5)
    """
    unspaced = sum(char.isalpha() and _script(char) in _UNSPACED for char in text)
    spaced = _WORD.findall("".join(" " if _script(char) in _UNSPACED else char for char in text))
    return unspaced + len(spaced)


def matches(language: str, wanted: str) -> bool:
    """Whether a language tag is `wanted` or a variety of it (`pt-BR` matches `pt`)."""
    tag, base = language.lower().replace("_", "-"), wanted.lower().replace("_", "-")
    return tag == base or tag.startswith(f"{base}-")


def _by_words(text: str) -> str:
    """The language with most function words, each weighted by 1 / languages that share it; "" on a tie."""
    scores: dict[str, float] = {}
    for word in _WORD.findall(text.lower()):
        languages = _VOTES.get(word, ())
        for language in languages:
            scores[language] = scores.get(language, 0.0) + 1 / len(languages)
    for language, letters in _LATIN_LETTERS:
        if any(letter in letters for letter in text.lower()):
            scores[language] = scores.get(language, 0.0) + 1
    best = sorted(scores.items(), key=lambda entry: -entry[1])[:2]
    if not best or (len(best) == 2 and best[0][1] == best[1][1]):
        return ""
    return best[0][0]


def _script(char: str) -> str:
    name = unicodedata.name(char, "").split(" ", 1)[0].split("-", 1)[0]
    return name if name in _SCRIPTS else ""


def detect_foreign(text: str, known: Sequence[str]) -> str:
    """Return the language of `text` if it is clearly none of `known`; "und" if several fit; else "".

    In the Latin script this needs function words or letters that no known language has: at least one, and
    more than twice as many as words of the known languages. Names, numbers and nouns alone are not enough.
    Words of one letter are ignored, since initials and units occur in every language.

    Args:
        text: Any text.
        known: Codes such as `en`, `en*` or `text:en`; empty: all languages are known.

    Example:
        >>> [detect_foreign(text, ["en"]) for text in ("une grenouille", "una rana", "红色的汽车", "a café")]
        ['fr', 'und', 'zh', '']
    """
    codes = {code.rpartition(":")[2].rstrip("*").lower().split("-")[0] for code in known}
    if not codes or "" in codes:
        return ""
    letters = [char for char in text if char.isalpha()]
    latin = sum(_script(char) == "LATIN" for char in letters)
    if letters and latin * 2 < len(letters):
        language = detect_language(text)
        return "" if language in codes or (language == "ja" and "zh" in codes) else language
    words = [word for word in _WORD.findall(text.lower()) if len(word) > 1 and word not in _ANYWHERE]
    own = sum(_may_be(word, codes) for word in words)
    others = {
        word: languages for word in words if not _may_be(word, codes) and (languages := _languages(word))
    }
    weights = {word: 1.0 if word in _FUNCTION_WORDS - _IN_NAMES else 0.5 for word in others}
    if sum(weights[word] for word in words if word in others) < max(1.0, 2 * own + 0.5):
        return ""
    scores = Counter[str]()
    for word, languages in others.items():
        for language in languages:
            scores[language] += weights[word] / len(languages)  # type: ignore[assignment]
    best = scores.most_common(2)
    return best[0][0] if len(best) == 1 or best[0][1] > best[1][1] else "und"


def _may_be(word: str, codes: Set[str]) -> bool:
    """Whether a word is a function word of one of the languages."""
    return ("en" in codes and word in _MORE_ENGLISH) or bool(codes & set(_languages(word)))


def _languages(word: str) -> tuple[str, ...]:
    """Languages that a word indicates, as a function word or by letters that few languages use."""
    by_letters = (language for language, own in _LATIN_LETTERS if any(letter in own for letter in word))
    by_words = (language for language, words in _MORE_WORDS.items() if word in words)
    return tuple(dict.fromkeys((*_VOTES.get(word, ()), *by_words, *by_letters)))


_IN_NAMES = frozenset("la le el las los de der das von san ist ben est que es et dem op jest".split())
"""Words that occur in names of places and people in any language: each counts half, like a letter."""
_MORE_WORDS = MappingProxyType(
    {
        language: frozenset(words.split())
        for language, words in {
            "fr": "vous nous je ils mais pas où comment bonjour merci tout tous votre notre leurs chez très "
            "aussi quel quelle sont être avoir fait deux cet qu",
            "de": "ich wir ihr sie er nicht wie wer guten nein mein dein habe kein keine auch aber oder wenn "
            "nach bei über unter zwei sehr ihnen geht",
            "es": "yo tú usted pero muy qué cómo dónde hola gracias sus hay tiene esta este estos sobre",
            "it": "noi voi molto cosa ciao grazie questo questa mio tuo sua hanno della delle degli nella",
            "pt": "eu você nós eles muito onde olá obrigado meu minha isto duas uma pelo pela também",
            "nl": "ik jij wij zij maar wel waar hallo mijn jouw heeft deze dit twee heel goed geen wordt",
        }.items()
    }
)
_FUNCTION_WORDS = frozenset(_VOTES).union(*_MORE_WORDS.values())
_MORE_ENGLISH = frozenset(
    "i you he she we they me him us them my your our was were be been am not no do does did can could "
    "will would should may or but if as so than then there here what which who whose how when where why "
    "one two some any all each more most other into over under up down out off near behind between about "
    "after before while".split()
)
"""Further English function words."""
_ANYWHERE = frozenset(
    "die son as sans pour men par dot tot sur van den des con del por per di al da dos pro fra mit".split()
)
"""Function words that are also words of other languages; they are ignored."""
