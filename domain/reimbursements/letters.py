"""What is written about reimbursements and where they go."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar
from domain.access import Role, User
from domain.bank_accounts import BankAccount
from domain.notices import Letter, writes
from domain.parties import Issuer, Merchant
from domain.texts import Locale, Text


@writes("bank_account_changed")
async def _bank_account_changed(connection: AsyncConnection, tenant: int, merchant_id: UUID) -> list[Letter]:
    """To the merchant's signatories: somebody has another account reimbursed."""
    account, user, merchant = BankAccount.table.c, User.table.c, Merchant.table.c
    rows = await connection.execute(
        sa.select(
            user.email,
            user.locale,
            merchant.name,
            account.iban,
            account.former_iban,
            account.changed_at,
            Issuer.table.c.support_phone,
            Issuer.table.c.support_email,
        )
        .join(Merchant.table, merchant.id == user.merchant_id)
        .join(BankAccount.table, account.merchant_id == merchant.id)
        .join(Issuer.table, sa.true())
        .where(
            merchant.id == merchant_id,
            user.role == str(Role.MERCHANT_MANAGER),
            user.active,
            user.email.is_not(None),
            account.former_iban.is_not(None),
        )
        .order_by(user.created_at, user.id)
    )
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
                "contact": " · ".join(filter(None, (row.support_phone, row.support_email))),
            },
        )
        for row in rows
    ]
