"""What people read, in French and English: each sentence stands once, in both languages, beside what says it (G6)."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Locale(StrEnum):
    """The language of a text."""

    FR = "fr"
    EN = "en"


Fact = str | int | Callable[[Locale], str]


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence in both languages; `{names}` in it are filled with facts."""

    fr: str
    en: str

    def in_locale(self, locale: Locale, **facts: Fact) -> str:
        """The sentence in one language. A fact that is read differently in each (an amount, a date) is a function of
        the language."""
        sentence = self.fr if locale is Locale.FR else self.en
        return sentence.format(**{name: fact(locale) if callable(fact) else fact for name, fact in facts.items()})


def sort_key(name: str) -> str:
    """What a name is sorted and searched by, without case and accents: "Éric" stands beside "eric"."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character))
