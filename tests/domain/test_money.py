"""Amounts: what people type becomes exact cents, and cents become what people read."""

import contextlib
from decimal import Decimal

import pytest
from babel.numbers import format_currency
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import RefusalCode, Refused
from domain.money import MAXIMUM_CENTS, cents, decimal, formatted, percentage, rounded_up_to_euro, shown
from domain.texts import Locale, Text

AMOUNTS = st.integers(-MAXIMUM_CENTS, MAXIMUM_CENTS)
LOCALES = st.sampled_from(Locale)
unhurried = settings(deadline=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20,00", 2000),
        ("20.00", 2000),
        ("20", 2000),
        ("20,5", 2050),
        ("0", 0),
        ("0,01", 1),
        ("007", 700),
        ("  20,00  ", 2000),
        ("\u00a020,00\n", 2000),
        ("1 234,56", 123456),
        ("1\u00a0234,56", 123456),
        ("1\u202f234,56", 123456),
        ("1\u2009234,56", 123456),
        ("1 234.56", 123456),
        ("1 234", 123400),
        ("1234,56", 123456),
        ("1,234.56", 123456),
        ("1.234,56", 123456),
        ("1,234,567.89", 123456789),
        ("1.234.567,8", 123456780),
        ("1\u202f234\u00a0567,89", 123456789),
        ("1,234,567", 123456700),
        ("+5", 500),
        ("-5,00", -500),
        ("\u22125,00", -500),
        ("- 5,00 €", -500),
        ("-0", 0),
        ("40,00 €", 4000),
        ("40,00\u00a0€", 4000),
        ("40€", 4000),
        ("€40.00", 4000),
        ("€ 40", 4000),
        ("-€40.00", -4000),
        ("€-40.00", -4000),
        ("9 999 999 999,99", MAXIMUM_CENTS),
        ("-9999999999.99", -MAXIMUM_CENTS),
    ],
)
def test_G2_money_comes_in_with_comma_or_point(text: str, expected: int) -> None:
    assert cents(text, "amount") == expected


EMPTY = "Enter an amount."
NO_AMOUNT = "This is not an amount. Write it like €1,234.56, for example."
FOREIGN_DIGITS = "Write the amount with the digits 0 to 9."
AMBIGUOUS = "This amount can be read in two ways: write it with two decimals, for example €1,234.00."
DECIMALS = "An amount has two decimals at most."
THOUSANDS = "The thousands of this amount are not separated properly. Write it like €1,234,567.89, for example."
AMBIGUOUS_IN_FRENCH = (
    "Ce montant peut se lire de deux façons\u00a0: écrivez-le avec deux décimales, par exemple 1\u202f234,00\u00a0€."
)
TOO_LONG = "This amount is too long: 32 characters at most."
TOO_HIGH = "This amount is above the maximum of €9,999,999,999.99."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", EMPTY),
        (" \u202f\t", EMPTY),
        ("€", EMPTY),
        ("abc", NO_AMOUNT),
        ("1e5", NO_AMOUNT),
        ("NaN", NO_AMOUNT),
        ("Infinity", NO_AMOUNT),
        ("0x10", NO_AMOUNT),
        ("1_000", NO_AMOUNT),
        ("--5", NO_AMOUNT),
        ("5-", NO_AMOUNT),
        ("+-5", NO_AMOUNT),
        ("-", NO_AMOUNT),
        ("20,", NO_AMOUNT),
        (",50", NO_AMOUNT),
        ("€5€", NO_AMOUNT),
        ("$5", NO_AMOUNT),
        ("½", NO_AMOUNT),
        ("5\x000", NO_AMOUNT),
        ("5\n0", NO_AMOUNT),
        ("\ud800", NO_AMOUNT),
        ("{0}", NO_AMOUNT),
        ("١٢٣", FOREIGN_DIGITS),
        ("２０", FOREIGN_DIGITS),
        ("2²", FOREIGN_DIGITS),
        ("1,234", AMBIGUOUS),
        ("1.234", AMBIGUOUS),
        ("19.999", AMBIGUOUS),
        ("-999,999 €", AMBIGUOUS),
        ("0,999", DECIMALS),
        ("1234,567", DECIMALS),
        ("19,9999", DECIMALS),
        ("1,234.567", DECIMALS),
        ("1 234,567", DECIMALS),
        ("12 34,56", THOUSANDS),
        ("1  234,56", THOUSANDS),
        ("1234 567", THOUSANDS),
        ("12,34.56", THOUSANDS),
        ("1,234,56", THOUSANDS),
        ("1.234.56", THOUSANDS),
        ("1,,234.56", THOUSANDS),
        ("1 234,567.00", THOUSANDS),
        ("1,2345.00", THOUSANDS),
        ("0,123,456", THOUSANDS),
        ("1.2.3", THOUSANDS),
        ("1" * 33, TOO_LONG),
        (" " * 32 + "1", TOO_LONG),
    ],
)
def test_G2_what_is_no_amount_is_refused_saying_why(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        cents(text, "input.amount")
    assert refused.value.code is RefusalCode.INVALID
    assert refused.value.message(Locale.EN) == message
    assert refused.value.problems[0].path == ("input", "amount")


@pytest.mark.parametrize("text", ["10 000 000 000,00", "-10000000000", "€10,000,000,000.00", "9" * 32])
def test_amounts_beyond_the_maximum_are_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        cents(text, "amount")
    assert refused.value.code is RefusalCode.AMOUNT_TOO_HIGH
    assert refused.value.message(Locale.EN) == TOO_HIGH
    assert refused.value.problems[0].path == ("amount",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Indiquez un montant."),
        ("abc", "Ce n’est pas un montant. Exemple d’écriture\u00a0: 1\u202f234,56\u00a0€."),
        ("٣", "Écrivez le montant avec les chiffres 0 à 9."),
        (
            "1,234",
            AMBIGUOUS_IN_FRENCH,
        ),
        ("0,999", "Un montant a deux décimales au plus."),
        (
            "1 2 3",
            "Les milliers de ce montant sont mal séparés. Exemple d’écriture\u00a0: 1\u202f234\u202f567,89\u00a0€.",
        ),
        ("1" * 33, "Ce montant est trop long\u00a0: 32 caractères au plus."),
        ("1" * 20, "Ce montant dépasse le maximum de 9\u202f999\u202f999\u202f999,99\u00a0€."),
    ],
)
def test_G6_refusals_of_amounts_exist_in_french(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        cents(text, "amount")
    assert refused.value.message(Locale.FR) == message


@pytest.mark.parametrize(
    ("amount", "text"), [(4000, "40.00"), (-5, "-0.05"), (0, "0.00"), (123456, "1234.56"), (-123400, "-1234.00")]
)
def test_decimal_is_exact(amount: int, text: str) -> None:
    assert decimal(amount) == text


@pytest.mark.parametrize(
    ("amount", "options", "french", "english"),
    [
        (4000, {}, "40,00\u00a0€", "€40.00"),
        (123456, {}, "1\u202f234,56\u00a0€", "€1,234.56"),
        (123456789, {}, "1\u202f234\u202f567,89\u00a0€", "€1,234,567.89"),
        (-5, {}, "-0,05\u00a0€", "-€0.05"),
        (4200, {"signed": True}, "+42,00\u00a0€", "+€42.00"),
        (-4200, {"signed": True}, "-42,00\u00a0€", "-€42.00"),
        (0, {"signed": True}, "0,00\u00a0€", "€0.00"),
        (100, {"whole": True}, "1\u00a0€", "€1"),
        (3000, {"whole": True}, "30\u00a0€", "€30"),
        (123400, {"whole": True}, "1\u202f234\u00a0€", "€1,234"),
        (3050, {"whole": True}, "30,50\u00a0€", "€30.50"),
        (0, {"whole": True}, "0\u00a0€", "€0"),
        (3000, {"whole": True, "signed": True}, "+30\u00a0€", "+€30"),
    ],
)
def test_G2_money_goes_out_as_people_read_it(amount: int, options: dict[str, bool], french: str, english: str) -> None:
    assert formatted(amount, Locale.FR, **options) == french
    assert formatted(amount, Locale.EN, **options) == english


def test_a_fact_of_money_is_read_in_the_language_of_its_sentence() -> None:
    text = Text("Reçu : {amount}.", "Received: {amount}.")
    assert text.in_locale(Locale.FR, amount=shown(4000)) == "Reçu : 40,00\u00a0€."
    assert text.in_locale(Locale.EN, amount=shown(4000)) == "Received: €40.00."


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [(12301, 12400), (12400, 12400), (40, 100), (123456, 123500), (0, 0), (1, 100), (-150, -100)],
)
def test_V6_amounts_round_up_to_the_euro(amount: int, rounded: int) -> None:
    assert rounded_up_to_euro(amount) == rounded


@pytest.mark.parametrize(
    ("amount", "percent", "share"),
    [
        (4000, "2.5", 100),
        (4020, "2.5", 101),  # 100.5
        (4019, "2.5", 100),
        (1, "50", 1),
        (-1, "50", -1),
        (-4020, "2.5", -101),
        (4020, "-2.5", -101),
        (1500, "60", 900),
        (100, "33.333333333333333333333333333333333333", 33),
        (MAXIMUM_CENTS, "100", MAXIMUM_CENTS),
        (999, "0", 0),
    ],
)
def test_percentages_round_half_a_cent_away_from_zero(amount: int, percent: str, share: int) -> None:
    assert percentage(amount, Decimal(percent)) == share


@unhurried
@given(AMOUNTS, LOCALES, st.booleans())
def test_what_is_shown_can_be_typed_back(amount: int, locale: Locale, signed: bool) -> None:
    assert cents(formatted(amount, locale, signed=signed), "amount") == amount


@unhurried
@given(AMOUNTS)
def test_what_is_sent_can_be_sent_back(amount: int) -> None:
    assert cents(decimal(amount), "amount") == amount
    assert Decimal(decimal(amount)) * 100 == amount


@unhurried
@given(AMOUNTS, LOCALES)
def test_G2_formats_are_those_of_the_unicode_locale_data(amount: int, locale: Locale) -> None:
    assert formatted(amount, locale) == format_currency(Decimal(decimal(amount)), "EUR", locale=locale.value)


@unhurried
@given(st.text(max_size=40) | st.text(alphabet="0123456789 .,+-−€\u202f", max_size=40))
def test_any_text_is_an_amount_or_a_refusal(text: str) -> None:
    with contextlib.suppress(Refused):
        digits = "".join(character for character in text if character in "0123456789")
        assert abs(cents(text, "amount")) in {int(digits or "0") * 10**shift for shift in range(3)}


@unhurried
@given(AMOUNTS)
def test_V6_rounding_up_adds_less_than_a_euro(amount: int) -> None:
    rounded = rounded_up_to_euro(amount)
    assert rounded % 100 == 0
    assert 0 <= rounded - amount < 100


@unhurried
@given(AMOUNTS, st.decimals(0, 100, places=4))
def test_percentages_are_within_half_a_cent_and_mirror_the_sign(amount: int, percent: Decimal) -> None:
    share = percentage(amount, percent)
    assert abs(share - amount * percent / 100) <= Decimal("0.5")
    assert percentage(-amount, percent) == -share
