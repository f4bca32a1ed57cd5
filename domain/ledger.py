"""The ledger: accounts, and transfers between them that are never touched again.

Value is moved at once (transfer), or in two phases: reserved, then posted, perhaps for less, or voided. A reservation
parks the value on a held account; what settles it empties that account to the cent, once. The database refuses postings
that do not sum to zero, a second settlement, an account below its floor, and any change of what is written.

Balances are kept only for accounts with a floor; every other total is derived, so that a busy merchant is no hot
row."""

from datetime import datetime
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID, uuid5

import sqlalchemy as sa

from domain.db import Entity, Row, TransactionNumber, column, computed
from domain.money import MAXIMUM_CENTS

DerivedAccount = NewType("DerivedAccount", UUID)
"""An account without a floor: nobody keeps its balance, so nobody locks it."""


class Unit(StrEnum):
    """What an account counts."""

    EUR = "EUR"


class AccountKind(StrEnum):
    """FUNDING: what the issuer has brought into circulation, negative. WALLET: what a holder may spend. HELD: reserved
    towards a merchant. MERCHANT: what is owed to a merchant. GUARANTEE: what the issuer guarantees for a member at this
    moment, negative. DEBT: what a member owes the issuer, negative. TRANSIT: on its way to a merchant's bank. BANK:
    what the issuer's bank has paid to merchants. COMMISSION: what the issuer has kept of what it reimbursed."""

    FUNDING = "FUNDING"
    WALLET = "WALLET"
    HELD = "HELD"
    MERCHANT = "MERCHANT"
    GUARANTEE = "GUARANTEE"
    DEBT = "DEBT"
    TRANSIT = "TRANSIT"
    BANK = "BANK"
    COMMISSION = "COMMISSION"


class TransferKind(StrEnum):
    """TRANSFER moves at once. RESERVE parks. POST settles a reservation, perhaps for less. VOID gives it all back."""

    TRANSFER = "TRANSFER"
    RESERVE = "RESERVE"
    POST = "POST"
    VOID = "VOID"


class Account(
    Entity,
    table="accounts",
    app="SELECT, INSERT",
    constraints=(
        sa.UniqueConstraint("tenant", "id", "unit"),
        sa.UniqueConstraint("tenant", "owner_id", "kind", "unit"),
    ),
):
    """Where value stands. Its identifier follows from its owner, kind and unit: see `account_of`."""

    kind: AccountKind
    owner_id: UUID
    unit: Unit
    opened_at: datetime


class Balance(
    Row,
    table="balances",
    key=("account_id",),
    constraints=(sa.CheckConstraint("amount >= floor", name="floor"),),
    options={"fillfactor": 70},
):
    """The kept balance of an account with a floor, in cents; it equals the sum of the account's postings."""

    account_id: UUID = column(references="accounts")
    amount: int
    floor: int

    @property
    def available(self) -> int:
        """What may still leave the account, in cents."""
        return self.amount - self.floor


class Transfer(
    Entity,
    table="transfers",
    app="SELECT, INSERT",
    append_only=True,
    constraints=(
        sa.UniqueConstraint("tenant", "settles"),
        sa.CheckConstraint("(settles IS NOT NULL) = (kind IN ('POST', 'VOID'))", name="settles"),
        sa.Index("transfers_subject_idx", "tenant", "subject_id"),
        sa.Index("transfers_xact_idx", "xact"),
    ),
):
    """A movement of value, sealed with the statement that writes it. `settles` is the reservation it ends."""

    kind: TransferKind
    settles: UUID | None = column(default=None, references="transfers")
    subject_kind: str
    subject_id: UUID
    reason: str
    at: datetime
    xact: int = computed(sa.text("pg_current_xact_id()"), sql=TransactionNumber())


class Posting(
    Row,
    table="postings",
    key=("transfer_id", "account_id"),
    app="SELECT, INSERT",
    append_only=True,
    constraints=(
        sa.ForeignKeyConstraint(
            ["tenant", "account_id", "unit"],
            ["accounts.tenant", "accounts.id", "accounts.unit"],
            name="postings_account_fkey",
        ),
        sa.CheckConstraint("amount <> 0", name="amount"),
        sa.Index("postings_account_idx", "tenant", "account_id"),
    ),
):
    """One side of a transfer: positive adds to the account, in cents."""

    transfer_id: UUID = column(references="transfers")
    account_id: UUID
    unit: Unit
    amount: int


FLOOR_OF: Final[dict[AccountKind, int | None]] = {
    AccountKind.FUNDING: None,
    AccountKind.WALLET: 0,
    AccountKind.HELD: None,
    AccountKind.MERCHANT: None,
    AccountKind.GUARANTEE: -MAXIMUM_CENTS,
    AccountKind.DEBT: None,
    AccountKind.TRANSIT: None,
    AccountKind.BANK: None,
    AccountKind.COMMISSION: None,
}
"""The floor of each kind, in cents; None where no balance is kept. All that is guaranteed for a member is an
amount too, no more than MAXIMUM_CENTS: a request for a voucher checks it beside its kind's maximums."""


def account_of(owner_id: UUID, kind: AccountKind, unit: Unit = Unit.EUR) -> UUID:
    """The account's identifier, without asking the database."""
    return uuid5(owner_id, f"{kind}:{unit}")


def wallet_of(holder_id: UUID) -> UUID:
    """What a holder may spend."""
    return account_of(holder_id, AccountKind.WALLET)


def merchant_account_of(merchant_id: UUID) -> DerivedAccount:
    """What is owed to a merchant."""
    return DerivedAccount(account_of(merchant_id, AccountKind.MERCHANT))


def held_account_of(merchant_id: UUID) -> DerivedAccount:
    """What is reserved towards a merchant."""
    return DerivedAccount(account_of(merchant_id, AccountKind.HELD))


def transit_account_of(merchant_id: UUID) -> DerivedAccount:
    """What is on its way to a merchant's bank."""
    return DerivedAccount(account_of(merchant_id, AccountKind.TRANSIT))


def bank_account_of(issuer_id: UUID) -> DerivedAccount:
    """What the issuer's bank has paid to merchants."""
    return DerivedAccount(account_of(issuer_id, AccountKind.BANK))


def commission_account_of(issuer_id: UUID) -> DerivedAccount:
    """What the issuer has kept of what it reimbursed."""
    return DerivedAccount(account_of(issuer_id, AccountKind.COMMISSION))


def guarantee_of(holder_id: UUID) -> UUID:
    """What is guaranteed for a member; its balance is kept, so that a maximum holds."""
    return account_of(holder_id, AccountKind.GUARANTEE)


def debt_account_of(holder_id: UUID) -> DerivedAccount:
    """What a member owes."""
    return DerivedAccount(account_of(holder_id, AccountKind.DEBT))


def funding_account_of(issuer_id: UUID) -> DerivedAccount:
    """What the issuer has brought into circulation."""
    return DerivedAccount(account_of(issuer_id, AccountKind.FUNDING))
