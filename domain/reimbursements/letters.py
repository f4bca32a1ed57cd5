"""What is written about reimbursements and where they go."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, money, parties
from domain.access import RIGHTS, Role, User
from domain.bank_accounts import BankAccount
from domain.notices import Letter, writes
from domain.parties import Issuer, Merchant
from domain.reimbursements.life import Reimbursement, TransferFile
from domain.texts import Locale, Text


@writes("bank_account_changed")
async def _bank_account_changed(connection: AsyncConnection, tenant: int, merchant_id: UUID) -> list[Letter]:
    """To the merchant's signatories: somebody has another account reimbursed."""
    account = BankAccount.table.c
    rows = await connection.execute(
        _to_signatories(account.iban, account.former_iban, account.changed_at)
        .join(BankAccount.table, account.merchant_id == Merchant.table.c.id)
        .where(Merchant.table.c.id == merchant_id, account.former_iban.is_not(None))
    )
    issuer = await parties.issuer(connection)
    subject = Text("Le compte bancaire de {merchant} a changé", "The bank account of {merchant} has changed")
    return [
        Letter(
            row.email,
            Locale(row.locale or Locale.FR),
            subject,
            "bank_account_changed",
            {
                "merchant": row.name,
                "new": row.iban[-4:],
                "former": row.former_iban[-4:],
                "changed_at": calendar.shown_instant(row.changed_at),
                "contact": issuer.contact,
            },
        )
        for row in rows
    ]


@writes("reimbursement_rejected")
async def _reimbursement_rejected(connection: AsyncConnection, tenant: int, reimbursement_id: UUID) -> list[Letter]:
    """To the merchant's signatories: the bank has not paid, so they may look at their bank details."""
    table = Reimbursement.table.c
    rows = await connection.execute(
        _to_signatories(
            table.reference, table.net, table.iban, table.rejected_at, table.rejection_code, table.rejection_reason
        )
        .join(Reimbursement.table, table.merchant_id == Merchant.table.c.id)
        .where(table.id == reimbursement_id, table.rejected_at.is_not(None))
    )
    issuer = await parties.issuer(connection)
    subject = Text(
        "Le remboursement {reference} n’a pas abouti", "The reimbursement {reference} did not reach your bank account"
    )
    return [
        Letter(
            row.email,
            Locale(row.locale or Locale.FR),
            subject,
            "reimbursement_rejected",
            {
                "merchant": row.name,
                "reference": row.reference,
                "amount": money.shown(row.net),
                "iban": row.iban[-4:],
                "rejected_at": calendar.shown_instant(row.rejected_at),
                "reason": " – ".join(filter(None, (row.rejection_code, row.rejection_reason))),
                "contact": issuer.contact,
            },
        )
        for row in rows
    ]


@writes("transfers_ready")
async def _transfers_ready(connection: AsyncConnection, tenant: int, file_id: UUID) -> list[Letter]:
    """To the issuer's staff who run reimbursements: a run that nobody asked for has made a file, and somebody must
    bring it to the bank."""
    table, user = TransferFile.table.c, User.table.c
    may = [str(role) for role in RIGHTS["runReimbursements"] or ()]
    rows = await connection.execute(
        sa.select(user.email, user.locale, Issuer.table.c.name, table.reference, table.transfers, table.total)
        .select_from(User.table)
        .join(TransferFile.table, table.id == file_id)
        .join(Issuer.table, sa.true())
        .where(user.role.in_(may), user.active, user.email.is_not(None))
        .order_by(user.created_at, user.id)
    )
    subject = Text("Virements à transmettre à la banque : {amount}", "Transfers to be sent to the bank: {amount}")
    return [
        Letter(
            row.email,
            Locale(row.locale or Locale.FR),
            subject,
            "transfers_ready",
            {
                "issuer": row.name,
                "reference": row.reference,
                "transfers": row.transfers,
                "amount": money.shown(row.total),
            },
        )
        for row in rows
    ]


def _to_signatories(*facts: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Who of a merchant is written to, and in which language; the merchant is yet to be chosen."""
    user, merchant = User.table.c, Merchant.table.c
    return (
        sa.select(user.email, user.locale, merchant.name, *facts)
        .join(Merchant.table, merchant.id == user.merchant_id)
        .where(user.role == str(Role.MERCHANT_MANAGER), user.active, user.email.is_not(None))
        .order_by(user.created_at, user.id)
    )
