"""How a rule says no: a `Refused`, with a code for programs and a sentence for people. A refusal has no effect, except
what it says must be kept (a counted attempt, a lock)."""

from dataclasses import dataclass
from enum import StrEnum

from domain.texts import Fact, Locale, Text


class RefusalCode(StrEnum):
    """Why something was refused; stable, for programs."""

    INVALID = "INVALID"
    NOT_FOUND = "NOT_FOUND"
    FORBIDDEN = "FORBIDDEN"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    WRONG_STATE = "WRONG_STATE"
    TOO_LATE = "TOO_LATE"
    CONFLICT = "CONFLICT"
    RATE_LIMITED = "RATE_LIMITED"
    BAD_CREDENTIALS = "BAD_CREDENTIALS"
    ACCOUNT_LOCKED = "ACCOUNT_LOCKED"
    PASSWORD_CHANGE_REQUIRED = "PASSWORD_CHANGE_REQUIRED"  # noqa: S105 — a code, no password
    AMOUNT_TOO_LOW = "AMOUNT_TOO_LOW"
    AMOUNT_TOO_HIGH = "AMOUNT_TOO_HIGH"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    DUES_UNPAID = "DUES_UNPAID"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    FILE_INVALID = "FILE_INVALID"


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong field. `path` names the argument: ("input", "amount")."""

    path: tuple[str, ...]
    text: Text
    facts: dict[str, Fact]

    def message(self, locale: Locale) -> str:
        """What is wrong with the field, for people."""
        return self.text.in_locale(locale, **self.facts)


class Refused(Exception):
    """A rule said no."""

    def __init__(
        self,
        code: RefusalCode,
        text: Text,
        *,
        field: str | None = None,
        problems: tuple[Problem, ...] = (),
        retry_after_seconds: int | None = None,
        keeps_effects: bool = False,
        **facts: Fact,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.facts = facts
        self.problems = problems or ((Problem(tuple(field.split(".")), text, facts),) if field else ())
        self.retry_after_seconds = retry_after_seconds
        self.keeps_effects = keeps_effects

    def message(self, locale: Locale) -> str:
        """Why, for people, in their language."""
        return self.text.in_locale(locale, **self.facts)

    def __str__(self) -> str:
        return f"{self.code}: {self.message(Locale.EN)}"

    @classmethod
    def invalid(cls, field: str, fr: str, en: str, **facts: Fact) -> "Refused":
        """A field holds what it may not; `field` is its path from the arguments, dotted: "input.amount"."""
        refused = cls(RefusalCode.INVALID, Text(fr, en), field=field)
        refused.facts.update(facts)
        return refused

    @classmethod
    def not_found(cls) -> "Refused":
        """It is not there, or not for this caller: the two are answered alike."""
        return cls(RefusalCode.NOT_FOUND, Text("Introuvable.", "Not found."))

    @classmethod
    def forbidden(cls) -> "Refused":
        """The caller's role or rights do not include this."""
        return cls(
            RefusalCode.FORBIDDEN,
            Text("Vos droits ne permettent pas cette opération.", "Your rights do not include this operation."),
        )
