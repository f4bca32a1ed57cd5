"""The printed voucher: the page that a member takes away once the voucher is presented.

Before, there is no page: neither number nor code could stand on it (V15), and a paper that looks like a voucher and
guarantees nothing would be taken for one. Number and code stand on the member's own page, since both are written on the
delivery note (V20); on the page of the issuer's staff the number alone (V25). Suppliers have none.

A link to the page names the session that asked for it: it opens no longer than that session, with the rights that its
user then has."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, money, parties
from domain.access import MERCHANT, Actor
from domain.errors import Refused
from domain.notices import A_TEST, Paper
from domain.texts import Locale, Text
from domain.vouchers.life import CERTIFICATION, STATUS_LABELS, Voucher
from domain.vouchers.questions import kind, member, require_open_space, voucher
from domain.vouchers.secret import code_of

PAGE_LASTS: Final = timedelta(minutes=10)
"""How long a link to a voucher's page opens it; short, for it may lead to the code."""


def page_purpose(voucher_id: UUID) -> str:
    """What the signature of a link to this voucher's page is for."""
    return f"printed voucher {voucher_id}"


def has_page(voucher: Voucher, actor: Actor) -> bool:
    """Whether the voucher is presented, and the actor not its supplier."""
    return voucher.number is not None and actor.role not in MERCHANT


async def page_of(
    connection: AsyncConnection, actor: Actor, voucher_id: UUID, keys: Sequence[str], locale: Locale
) -> Paper:
    """The page as this actor may read it; `keys` are the secret keys. Raises Refused: NOT_FOUND, FORBIDDEN for a member
    whose space is not open."""
    await require_open_space(connection, actor)
    printed = await voucher(connection, actor, voucher_id)
    if printed is None or not has_page(printed, actor):
        raise Refused.not_found()
    assert printed.number is not None and printed.revealed_at is not None, "it is presented"
    holder = await member(connection, actor, printed.holder_id)
    supplier, of_kind = await parties.merchant(connection, printed.supplier_id), await kind(connection, printed.kind_id)
    assert supplier is not None, "merchants stay"
    issuer, now = await parties.issuer(connection), await parties.now(connection, actor.tenant)
    code = code_of(printed, keys) if actor.holder_id == printed.holder_id else None
    words = {
        "language": locale.value,
        "issuer": issuer.name,
        "test": A_TEST.in_locale(locale) if issuer.sandbox else None,
        "title": _PRESENTED.in_locale(locale),
        "number": [_NUMBER.in_locale(locale), printed.number],
        "code": [_CODE.in_locale(locale), code] if code else None,
        "facts": [
            [_MEMBER.in_locale(locale), holder.reference],
            [_NAME.in_locale(locale), " ".join(filter(None, (holder.first_name, holder.name)))],
            [_SUPPLIER.in_locale(locale), supplier.name],
            [_KIND.in_locale(locale), of_kind.name],
            [_STATUS.in_locale(locale), STATUS_LABELS[printed.status].in_locale(locale)],
            [_VALUE.in_locale(locale), money.formatted(printed.value, locale, whole=True)],
            [_VALID.in_locale(locale), calendar.day_style(printed.valid_until, locale)],
            [_DRAWN.in_locale(locale), calendar.voucher_style(printed.revealed_at, locale)],
        ],
        "certification": CERTIFICATION.in_locale(locale, issuer=issuer.name),
        "warning": _WARNING.in_locale(locale) if code else None,
        "printed": _PRINTED.in_locale(locale, at=calendar.voucher_style(now, locale)),
    }
    return Paper("voucher", words, _FILE.in_locale(locale, number=printed.number))


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_FILE: Final = Text("bon-{number}.pdf", "voucher-{number}.pdf")
_PRESENTED: Final = Text(
    "Le bon a été présenté au fournisseur avec son code secret.",
    "The voucher was presented to the supplier with its secret code.",
)
_NUMBER: Final = Text("Numéro du bon", "Voucher number")
_CODE: Final = Text("Code secret", "Secret code")
_MEMBER: Final = Text("N° d’adhérent", "Member no.")
_NAME: Final = Text("Nom de l’adhérent", "Member’s name")
_SUPPLIER: Final = Text("Fournisseur", "Supplier")
_KIND: Final = Text("Type de bon", "Kind of voucher")
_STATUS: Final = Text("Statut du bon", "Voucher status")
_VALUE: Final = Text("Valeur du bon", "Voucher value")
_VALID: Final = Text("Valide jusqu’au", "Valid until")
_DRAWN: Final = Text("Code obtenu le", "Code drawn on")
_WARNING: Final = Text(
    "Le code secret vaut votre signature : ne le communiquez qu’à ce fournisseur.",
    "The secret code stands for your signature: give it to this supplier only.",
)
_PRINTED: Final = Text("Page établie le {at}", "Page made on {at}")
