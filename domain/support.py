"""Messages from users to the people who help at their issuer (P5)."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import fields
from domain.access import Actor, User
from domain.codes import new_id
from domain.db import Entity, column
from domain.errors import RefusalCode, Refused
from domain.notices import Letter, NoAddress, Notice, writes
from domain.parties import Holder, Issuer, Merchant
from domain.texts import Locale, Text
from domain.work import Work


class SupportMessage(
    Entity,
    table="support_messages",
    prefix="smsg",
    app="SELECT, INSERT",
    constraints=(sa.Index("support_messages_user_idx", "tenant", "user_id", "sent_at"),),
):
    """What a user has written to the issuer. `sent_at` is of the world's clock, by which there may be so many only."""

    user_id: UUID = column(references="users")
    subject: str
    message: str
    sent_at: datetime


LONGEST_MESSAGE: Final = 4000
"""How long a message may be, in characters."""

MOST: Final = 10
"""How many messages a user may send within WITHIN: each is a mail to the issuer, and a copy to its sender."""

WITHIN: Final = timedelta(hours=1)

# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def contact(work: Work, actor: Actor, subject: str, message: str) -> SupportMessage:
    """A user writes to the issuer, which is mailed it, and the user a copy. Raises Refused: INVALID; WRONG_STATE at an
    issuer that receives no messages; RATE_LIMITED after too many."""
    actor.require("contactSupport")
    subject = fields.line(subject, "input.subject")
    message = fields.lines(message, "input.message", longest=LONGEST_MESSAGE)
    user = await work.take(User.by(id=actor.user_id))
    issuer = Issuer.from_row(tuple((await work.read(sa.select(*Issuer.selected())))[0]))
    if issuer.support_email is None:
        raise _unreachable(issuer)
    await _count(work, user.id)

    sent = work.create(
        SupportMessage(
            tenant=work.tenant, id=new_id(), user_id=user.id, subject=subject, message=message, sent_at=work.real_now
        )
    )
    work.tell(Notice("support_contacted", sent))
    return work.note("create", sent)


async def own_message(connection: AsyncConnection, actor: Actor, message_id: UUID) -> SupportMessage | None:
    """One message of this user's own, or None."""
    table = SupportMessage.table.c
    of_its_own = (table.id == message_id) & (table.user_id == actor.user_id)
    row = (await connection.execute(sa.select(*SupportMessage.selected()).where(of_its_own))).first()
    return SupportMessage.from_row(row) if row else None


async def _count(work: Work, user_id: UUID) -> None:
    """Raises Refused (RATE_LIMITED) with the seconds to wait until another message may be sent."""
    table = SupportMessage.table.c
    recent = await work.read(
        sa.select(table.sent_at)
        .where(table.user_id == user_id, table.sent_at > work.real_now - WITHIN)
        .order_by(table.sent_at.desc())
        .limit(MOST)
    )
    if len(recent) == MOST:
        oldest: datetime = recent[-1]["sent_at"]
        raise Refused(
            RefusalCode.RATE_LIMITED,
            Text(
                "{most} messages au plus par heure : patientez avant d’en envoyer un autre.",
                "At most {most} messages an hour: wait before you send another.",
            ),
            retry_after_seconds=int((oldest + WITHIN - work.real_now).total_seconds()) + 1,
            most=MOST,
        )


def _unreachable(issuer: Issuer) -> Refused:
    if issuer.support_phone is None:
        return Refused(
            RefusalCode.WRONG_STATE,
            Text("{issuer} ne reçoit pas de messages ici.", "{issuer} receives no messages here."),
            issuer=issuer.name,
        )
    return Refused(
        RefusalCode.WRONG_STATE,
        Text(
            "{issuer} ne reçoit pas de messages ici : appelez le {phone}.",
            "{issuer} receives no messages here: call {phone}.",
        ),
        issuer=issuer.name,
        phone=issuer.support_phone,
    )


# ── letters ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@writes("support_contacted")
async def _support_contacted(connection: AsyncConnection, tenant: int, message_id: UUID) -> list[Letter]:
    """To the people who help, who answer the sender with “reply”; and a copy to the sender, where it has an address."""
    sent, user, merchant, holder = SupportMessage.table.c, User.table.c, Merchant.table.c, Holder.table.c
    row = (
        await connection.execute(
            sa.select(
                sent.subject,
                sent.message,
                user.name,
                user.login,
                user.email,
                user.locale,
                merchant.code,
                merchant.name.label("merchant"),
                holder.reference,
            )
            .join(User.table, user.id == sent.user_id)
            .outerjoin(Merchant.table, merchant.id == user.merchant_id)
            .outerjoin(Holder.table, holder.id == user.holder_id)
            .where(sent.id == message_id)
        )
    ).one()
    issuer = Issuer.from_row((await connection.execute(sa.select(*Issuer.selected()))).one())
    if issuer.support_email is None:
        raise NoAddress
    facts = {
        "about": row.subject,
        "name": row.name,
        "login": row.login,
        "email": row.email or "",
        "merchant": f"{row.code} – {row.merchant}" if row.code else "",
        "holder": row.reference or "",
    }
    quoted = row.message.split("\n")
    to_issuer = Letter(
        issuer.support_email,
        # An issuer has chosen no language, as a user may not have either.
        Locale.FR,
        Text("Message de {name} : {about}", "Message from {name}: {about}"),
        "support_contacted",
        facts,
        reply_to=row.email,
        quoted=quoted,
    )
    if row.email is None:
        return [to_issuer]
    copy = Letter(
        row.email,
        Locale(row.locale or Locale.FR),
        Text("Votre message : {about}", "Your message: {about}"),
        "support_copied",
        facts,
        quoted=quoted,
    )
    return [to_issuer, copy]
