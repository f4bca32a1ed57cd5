"""Bank accounts: where merchants are reimbursed to, and what the issuer pays from."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from schwifty import BIC, IBAN
from schwifty.exceptions import SchwiftyException
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import fields, sign_in
from domain.access import MERCHANT, Actor
from domain.codes import new_id
from domain.db import Database, Entity, Row, column
from domain.errors import Refused
from domain.notices import Notice
from domain.parties import Address, Merchant, checked_address
from domain.work import Work, perform

_ADDRESS_CHECK: Final = "num_nulls(street, postcode, town, country) IN (0, 4)"


class BankAccount(
    Entity,
    table="bank_accounts",
    prefix="bank",
    constraints=(
        sa.CheckConstraint("iban ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'", name="iban"),
        sa.CheckConstraint(_ADDRESS_CHECK, name="postal_address"),
    ),
):
    """Where a merchant is reimbursed to; the address is its holder's. `held`: another account than before, which
    runs of reimbursements pass over until one of another day has, so that its merchant can object; `passed_over_by` is
    that run. `former_iban` is the one before."""

    merchant_id: UUID = column(references="merchants", unique=True)
    iban: str
    bic: str | None = None
    account_holder: str
    street: str | None = None
    postcode: str | None = None
    town: str | None = None
    country: str | None = None
    held: bool = False
    passed_over_by: UUID | None = column(default=None, references="jobs")
    former_iban: str | None = None
    changed_at: datetime

    @property
    def iban_last4(self) -> str:
        """What is shown of the IBAN."""
        return self.iban[-4:]


class PayingAccount(
    Row,
    table="paying_accounts",
    key=(),
    app="SELECT",
    constraints=(
        sa.CheckConstraint("iban ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'", name="iban"),
        sa.CheckConstraint(_ADDRESS_CHECK, name="postal_address"),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"]),
    ),
):
    """What the issuer reimburses from. Only operators set it, on the command line."""

    iban: str
    bic: str | None = None
    account_holder: str
    street: str | None = None
    postcode: str | None = None
    town: str | None = None
    country: str | None = None


LONGEST_NAME: Final = 70
"""How long an account holder's name may be in a transfer."""

# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def change(
    database: Database, actor: Actor, merchant_id: UUID | None, current_password: str, **account: Any
) -> Merchant:
    """The same as `update`, for who proves once more to be the user (reliability): money would go elsewhere. Raises
    Refused: BAD_CREDENTIALS, and what `update` raises."""
    actor.require("updateBankAccount")
    await sign_in.require_password(database, actor, current_password)
    changed = await perform(database, actor, update, merchant_id, **account)
    assert isinstance(changed, Merchant), "no key leads to an earlier answer"
    return changed


async def update(
    work: Work,
    actor: Actor,
    merchant_id: UUID | None,
    *,
    iban: str,
    bic: str | None = None,
    account_holder: str,
    postal_address: Address | None = None,
) -> Merchant:
    """A merchant's bank account, its own or, for the issuer's staff, any. Another IBAN than before is told to the
    merchant, and runs pass it over until one of another day has. Raises Refused: INVALID, NOT_FOUND."""
    actor.require("updateBankAccount")
    if actor.role in MERCHANT and merchant_id not in (None, actor.merchant_id):
        raise Refused.not_found()
    about = merchant_id or actor.merchant_id
    if about is None:
        raise Refused.invalid("input.merchantId", "Indiquez le commerçant.", "Say which merchant.")
    given = checked_account(iban, bic, account_holder, postal_address)
    merchant, account = await work.take(Merchant.by(id=about), BankAccount.maybe(merchant_id=about))
    if account is None:
        work.create(BankAccount(tenant=work.tenant, id=new_id(), merchant_id=merchant.id, changed_at=work.now, **given))
        return work.note("update_bank_account", merchant)
    if account.iban != given["iban"]:
        given |= {"former_iban": account.iban, "held": True}
    work.change(account, **given, changed_at=work.now)
    if "held" in given:
        work.tell(Notice("bank_account_changed", merchant))
    return work.note("update_bank_account", merchant, moved="held" in given)


def checked_account(iban: str, bic: str | None, account_holder: str, address: Address | None) -> dict[str, Any]:
    """A bank account's columns. Raises Refused (INVALID)."""
    try:
        number = IBAN(fields.line(iban, "input.iban", longest=50), validate_bban=True)
    except SchwiftyException:
        raise Refused.invalid("input.iban", "Cet IBAN n’est pas valide.", "This IBAN is not valid.") from None
    if not number.in_sepa_zone:
        raise Refused.invalid(
            "input.iban", "Ce compte n’est pas dans la zone SEPA.", "This account is outside the SEPA area."
        )
    return {
        "iban": number.compact,
        "bic": _bic(bic, number),
        "account_holder": fields.line(account_holder, "input.accountHolder", longest=LONGEST_NAME),
        **dict.fromkeys(("street", "postcode", "town", "country")),
        **(_address(address) if address else {}),
    }


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def bank_account(connection: AsyncConnection, actor: Actor, merchant_id: UUID) -> BankAccount | None:
    """A merchant's bank account, for the issuer's staff and the merchant's signatory; None to others."""
    table = BankAccount.table.c
    asked = sa.select(*BankAccount.selected()).where(table.merchant_id == merchant_id, actor.sees(table.merchant_id))
    row = (await connection.execute(asked)).first()
    return BankAccount.from_row(row) if row else None


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bic(given: str | None, iban: IBAN) -> str | None:
    text = fields.optional_line(given, "input.bic", longest=20)
    if text is None:
        # Known for most banks; a transfer does without it.
        return iban.bic.compact if iban.bic else None
    try:
        bic = BIC(text)
    except SchwiftyException:
        raise Refused.invalid("input.bic", "Ce BIC n’est pas valide.", "This BIC is not valid.") from None
    if bic.country_code != iban.country_code and (bic.country_code, iban.country_code) not in _SHARED:
        raise Refused.invalid(
            "input.bic", "Ce BIC n’est pas du pays de l’IBAN.", "This BIC is not of the IBAN’s country."
        )
    return bic.compact


def _address(address: Address) -> dict[str, str]:
    kept = checked_address(address, "input.postalAddress")
    for name, longest in _LONGEST.items():
        fields.line(kept[name], f"input.postalAddress.{name}", longest=longest)
    return kept


_LONGEST: Final = {"street": 70, "postcode": 16, "town": 35}
"""How long the parts of an address may be in a transfer."""

_SHARED: Final = frozenset(
    {("FR", "MC"), ("GB", "JE"), ("GB", "GG"), ("GB", "IM")} | {("FR", code) for code in ("GP", "MQ", "GF", "RE", "YT")}
)
"""Banks of the first country that hold accounts of the second."""
