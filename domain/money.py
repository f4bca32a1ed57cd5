"""Money is whole cents, in euros: it is read from what people type, written as they read it, and reckoned without a
binary fraction anywhere (G2)."""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final

from babel import Locale as LocaleData

from domain.errors import RefusalCode, Refused
from domain.texts import Fact, Locale, Text

MAXIMUM_CENTS: Final = 999_999_999_999
"""9 999 999 999,99 €: no amount is larger, in either direction."""


def cents(text: str, field: str) -> int:
    """The signed cents that a person or a program wrote, with a comma or a point (G2): "20", "20,00", "1 234,56",
    "1,234.56 €", "−5,00". Raises Refused, naming `field`: INVALID when it is no amount or could be read in two ways
    ("1,234"), AMOUNT_TOO_HIGH beyond MAXIMUM_CENTS."""
    if len(text) > _LONGEST_TEXT:
        raise Refused.invalid(
            field,
            "Ce montant est trop long\u00a0: {longest} caractères au plus.",
            "This amount is too long: {longest} characters at most.",
            longest=_LONGEST_TEXT,
        )
    plain = text.translate(_PLAIN).strip()
    if not plain or plain == "€":
        raise Refused.invalid(field, "Indiquez un montant.", "Enter an amount.")
    if any(character.isdigit() and not character.isascii() for character in plain):
        raise Refused.invalid(
            field, "Écrivez le montant avec les chiffres 0 à 9.", "Write the amount with the digits 0 to 9."
        )
    written = _WRITTEN.fullmatch(plain)
    if written is None or plain.count("€") > 1:
        raise Refused.invalid(
            field,
            "Ce n’est pas un montant. Exemple d’écriture\u00a0: {example}.",
            "This is not an amount. Write it like {example}, for example.",
            example=shown(123_456),
        )
    euros, point, fraction = _split(written["number"], field)
    amount = _whole_euros(euros, point, field) * 100 + int(fraction.ljust(2, "0"))
    if amount > MAXIMUM_CENTS:
        raise Refused(
            RefusalCode.AMOUNT_TOO_HIGH,
            Text("Ce montant dépasse le maximum de {maximum}.", "This amount is above the maximum of {maximum}."),
            field=field,
            maximum=shown(MAXIMUM_CENTS),
        )
    return -amount if written["sign"] == "-" else amount


def positive_cents(text: str, field: str) -> int:
    """The same, for an amount that must be more than zero. Raises Refused as `cents` does, and AMOUNT_TOO_LOW."""
    amount = cents(text, field)
    if amount <= 0:
        raise Refused(
            RefusalCode.AMOUNT_TOO_LOW,
            Text("Le montant doit être supérieur à zéro.", "The amount must be more than zero."),
            field=field,
        )
    return amount


def decimal(cents: int) -> str:
    """The exact amount in euros for programs, always with two decimals: "40.00", "-0.05"."""
    euros, fraction = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{euros}.{fraction:02d}"


def formatted(cents: int, locale: Locale, *, signed: bool = False, whole: bool = False) -> str:
    """The amount as people read it (G2): "1 234,56 €" in French, its spaces unbreakable, "€1,234.56" in English.
    `signed` shows the plus of what comes in, "+42,00 €"; `whole` drops the decimals of whole euros, "30 €"."""
    style = _STYLES[locale]
    euros, fraction = divmod(abs(cents), 100)
    sign = "-" if cents < 0 else "+" if signed and cents else ""
    decimals = "" if whole and not fraction else f"{style.point}{fraction:02d}"
    return f"{sign}{style.before}{format(euros, ',').replace(',', style.group)}{decimals}{style.after}"


def shown(cents: int) -> Fact:
    """The amount as a fact of a Text, written in the reader's language."""
    return partial(formatted, cents)


def rounded_up_to_euro(cents: int) -> int:
    """The smallest whole number of euros, in cents, that is not less (V6): 123.01 gives 124.00, 124.00 stays."""
    return -(-cents // 100) * 100


def percentage(cents: int, percent: Decimal) -> int:
    """`percent` per cent of the amount, in cents; exact until the one rounding, half a cent going away from zero."""
    numerator, denominator = percent.as_integer_ratio()
    product = cents * numerator
    magnitude = (2 * abs(product) + 100 * denominator) // (200 * denominator)
    return -magnitude if product < 0 else magnitude


_LONGEST_TEXT: Final = 32
_PLAIN: Final = str.maketrans({"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2212": "-"})
_WRITTEN: Final = re.compile(r"(?:€ *)?(?P<sign>[+-]?) *(?:€ *)?(?P<number>[0-9](?:[0-9 .,]*[0-9])?) *€?")
_NUMBER: Final = re.compile(r"(?P<euros>.*?)(?:(?P<point>[.,])(?P<fraction>[0-9]{1,2}))?")
_GROUPS: Final = re.compile(r"[1-9][0-9]{0,2}(?P<group>[ .,])[0-9]{3}(?:(?P=group)[0-9]{3})*")
_MANY_DECIMALS: Final = re.compile(
    r"(?:[0-9]+|[0-9]{1,3}(?P<group>[ .,])[0-9]{3}(?:(?P=group)[0-9]{3})*(?!(?P=group)))[.,][0-9]{3,}"
)


def _split(number: str, field: str) -> tuple[str, str, str]:
    """Euros, decimal point and decimals; the last two are empty when only euros were written."""
    parts = _NUMBER.fullmatch(number)
    assert parts is not None, "the pattern takes any text on one line"
    if parts["point"] is not None:
        return parts["euros"], parts["point"], parts["fraction"]
    grouped = _GROUPS.fullmatch(number)
    if grouped and grouped["group"] != " " and number.count(grouped["group"]) == 1:
        raise Refused.invalid(
            field,
            "Ce montant peut se lire de deux façons\u00a0: écrivez-le avec deux décimales, par exemple {example}.",
            "This amount can be read in two ways: write it with two decimals, for example {example}.",
            example=shown(123_400),
        )
    if grouped is None and _MANY_DECIMALS.fullmatch(number):
        raise Refused.invalid(field, "Un montant a deux décimales au plus.", "An amount has two decimals at most.")
    return number, "", ""


def _whole_euros(text: str, point: str, field: str) -> int:
    if text.isdecimal():
        return int(text)
    grouped = _GROUPS.fullmatch(text)
    if grouped is None or grouped["group"] == point:
        raise Refused.invalid(
            field,
            "Les milliers de ce montant sont mal séparés. Exemple d’écriture\u00a0: {example}.",
            "The thousands of this amount are not separated properly. Write it like {example}, for example.",
            example=shown(123_456_789),
        )
    return int(re.sub("[ .,]", "", text))


@dataclass(frozen=True, slots=True)
class _Style:
    before: str
    group: str
    point: str
    after: str


def _style_of(locale: Locale) -> _Style:
    data = LocaleData.parse(locale.value)
    pattern = data.currency_formats["standard"]
    symbols = data.number_symbols["latn"]
    return _Style(
        before=pattern.prefix[0].replace("¤", "€"),
        group=symbols["group"],
        point=symbols["decimal"],
        after=pattern.suffix[0].replace("¤", "€"),
    )


# Read once: Babel's own formatting costs twenty times more, and this runs for every row of every list.
_STYLES: Final = {locale: _style_of(locale) for locale in Locale}
