"""Language names of POSIX locales and gettext catalogues, as BCP 47 tags."""

from __future__ import annotations

_SCRIPTS = {"latin": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva"}


def bcp47(locale: str) -> str:
    """Turn a locale's name into a language tag.

    Args:
        locale: `ll`, `ll_CC`, `ll@modifier`; case does not matter.

    Example:
        >>> bcp47("pt_BR"), bcp47("zh_tw"), bcp47("sr@latin"), bcp47("ca@valencia")
        ('pt-BR', 'zh-TW', 'sr-Latn', 'ca-valencia')
    """
    name, _, modifier = locale.partition("@")
    language, _, region = name.replace("-", "_").partition("_")
    parts = [language.lower(), _SCRIPTS.get(modifier.lower(), modifier.lower()), region.upper()]
    return "-".join(part for part in parts if part)
