"""What people type into fields, made sure of before anything happens."""

from typing import Final

from email_validator import EmailNotValidError, validate_email

from domain.errors import Refused

LINE_LENGTH: Final = 120
"""The longest line of text that people may give, in characters."""


def line(text: str | None, field: str, *, longest: int = LINE_LENGTH) -> str:
    """One line that must hold something; surrounding spaces go. Raises Refused (INVALID)."""
    kept = optional_line(text, field, longest=longest)
    if kept is None:
        raise Refused.invalid(field, "Ce champ est obligatoire.", "This field is required.")
    return kept


def optional_line(text: str | None, field: str, *, longest: int = LINE_LENGTH) -> str | None:
    """One line, or None when it holds nothing. Raises Refused (INVALID) when it is too long or more than a line."""
    kept = (text or "").strip()
    if not kept:
        return None
    if len(kept) > longest:
        raise Refused.invalid(field, "{longest} caractères au plus.", "At most {longest} characters.", longest=longest)
    if not kept.isprintable() and any(
        ord(character) < 32 or character in "\x7f\u0085\u2028\u2029" for character in kept
    ):
        raise Refused.invalid(field, "Une seule ligne de texte est attendue.", "A single line of text is expected.")
    return kept


def lines(text: str, field: str, *, longest: int) -> str:
    """Text of any number of lines that must hold something; spaces around it go. Raises Refused (INVALID)."""
    kept = "\n".join(line.rstrip() for line in text.splitlines()).strip()
    if not kept:
        raise Refused.invalid(field, "Ce champ est obligatoire.", "This field is required.")
    if len(kept) > longest:
        raise Refused.invalid(field, "{longest} caractères au plus.", "At most {longest} characters.", longest=longest)
    if any(ord(character) < 32 and character not in "\n\t" for character in kept):
        raise Refused.invalid(field, "Un texte simple est attendu.", "Plain text is expected.")
    return kept


def required_email(text: str | None, field: str) -> str:
    """An e-mail address that must be there. Raises Refused (INVALID)."""
    kept = email(text, field)
    if kept is None:
        raise Refused.invalid(field, "Ce champ est obligatoire.", "This field is required.")
    return kept


def email(text: str | None, field: str) -> str | None:
    """An e-mail address, its host in lower case; None stays None. Raises Refused (INVALID)."""
    kept = optional_line(text, field, longest=254)
    if kept is None:
        return None
    try:
        return validate_email(kept, check_deliverability=False, test_environment=True, allow_smtputf8=False).normalized
    except EmailNotValidError:
        raise Refused.invalid(
            field, "Cette adresse e-mail n’est pas valide.", "This e-mail address is not valid."
        ) from None
