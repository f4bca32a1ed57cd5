"""Letters: what a notice says, written in the reader's language from what the database says now, and handed to the mail
server. The same notice always has the same Message-ID."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.errors import MessageDefect
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as MAIL_POLICY
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
import sqlalchemy as sa
from css_inline import CSSInliner
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy.ext.asyncio import AsyncConnection

import domain.support  # noqa: F401 — its letters come with no flow
from domain import parties
from domain.appearance import Shades, appearance
from domain.codes import signed_token
from domain.db import Database
from domain.notices import Letter, NoAddress, writer
from domain.outbox import OutboxRow
from domain.parties import Issuer
from domain.settings import Settings
from domain.texts import Fact, Locale, Text
from reporting import pdf

_TEXTS: Final = {
    "hello": Text("Bonjour,", "Hello,"),
    "closing": Text("Merci de votre confiance, et à bientôt,", "Thank you, and see you soon,"),
    "test": Text(
        "Ceci est un essai\u00a0: aucune somme réelle n’est en jeu.", "This is a test: no real money is involved."
    ),
    "question": Text("Une question\u00a0? {contact}", "A question? {contact}"),
    "automatic": Text("Ce message est automatique.", "This message is automatic."),
}

_TIMEOUT_SECONDS: Final = 20
_NOT_IN_A_LINE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ENHANCED_STATUS: Final = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(("html",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# Rules for dark screens stay in the head: they cannot be written into the tags.
_STYLES_INTO_TAGS: Final = CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)


class Rejected(Exception):
    """The mail server will never take the letter. `reason` holds no personal data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Post:
    """The way to the mail server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def deliver(self, database: Database, tenant: int, outbox_id: UUID) -> None:
        """Write and send the letters of an outbox row. Raises Rejected when the server refuses one for good, and what
        aiosmtplib raises when another try may do; every letter has then been tried."""
        async with database.reading(tenant) as connection:
            try:
                letters = await _letters(connection, tenant, outbox_id)
            except NoAddress as nobody:
                raise Rejected("no mail address any more") from nobody
            issuer = await parties.issuer(connection)
            shades = (await appearance(connection, tenant)).shades
        if not letters:
            return
        mails = [self.compose(issuer, shades, letter, outbox_id, n) for n, letter in enumerate(letters, start=1)]
        for letter, mail in zip(letters, mails, strict=True):
            for paper in letter.papers:
                content = await asyncio.to_thread(pdf.rendered, paper.template, [paper.words])
                mail.add_attachment(content, "application", "pdf", filename=paper.name)
            for enclosed in letter.enclosures:
                kind, subtype = enclosed.media_type.split("/")
                mail.add_attachment(enclosed.content, kind, subtype, filename=enclosed.name)
        await self._send(mails)

    def compose(self, issuer: Issuer, shades: Shades, letter: Letter, outbox_id: UUID, n: int) -> EmailMessage:
        """The mail, in text and HTML; `n` counts the letters of one notice."""
        facts = {name: _in_line(fact, letter.locale) for name, fact in letter.facts.items()}
        mark = "[TEST] " if issuer.sandbox else ""
        subject = mark + _one_line(letter.subject.in_locale(letter.locale, **facts))
        contact = " · ".join(filter(None, (issuer.contact, _support_hours(issuer, letter))))
        words = facts | {
            "locale": letter.locale.value,
            "subject": subject,
            "issuer": _one_line(issuer.name),
            "sandbox": issuer.sandbox,
            "accent": shades,
            "contact": _one_line(contact),
            "quoted": [_one_line(line) for line in letter.quoted],
            "link": self._settings.public_url + letter.link_path + self._signed(issuer.tenant, letter),
            "t": {name: text.in_locale(letter.locale, contact=_one_line(contact)) for name, text in _TEXTS.items()},
        }
        stem = f"{letter.template}.{letter.locale}"
        mail = EmailMessage(policy=MAIL_POLICY)
        mail["From"] = self._settings.mail_from
        try:
            mail["To"] = Address(addr_spec=letter.to)
        except (ValueError, MessageDefect) as defect:
            raise Rejected("no mail address") from defect
        mail["Subject"] = subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{outbox_id}.{n}@{self._settings.public_host}>"
        if letter.reply_to is None:
            mail["Auto-Submitted"] = "auto-generated"
        else:
            # Somebody has written it, and waits for an answer, which may be an automatic one.
            mail["Reply-To"] = Address(addr_spec=letter.reply_to)
        mail.set_content(_TEMPLATES.get_template(f"{stem}.txt").render(words), cte="quoted-printable")
        html = _STYLES_INTO_TAGS.inline(_TEMPLATES.get_template(f"{stem}.html").render(words))
        mail.add_alternative(html, subtype="html", cte="quoted-printable")
        mail["Content-Language"] = letter.locale.value
        return mail

    def _signed(self, tenant: int, letter: Letter) -> str:
        if letter.signs is None:
            return ""
        purpose, id_ = letter.signs
        return signed_token(self._settings.keys[0], purpose, tenant, id_)

    async def _send(self, mails: Sequence[EmailMessage]) -> None:
        refused: list[Exception] = []
        async with self._connection() as server:
            for mail in mails:
                try:
                    await server.send_message(mail)
                except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPResponseException) as error:
                    refused.append(error)
        reasons = [_refusal_for_good(refusal) for refusal in refused]
        for refusal, reason in zip(refused, reasons, strict=True):
            if reason is None:
                raise refusal
        if reasons:
            raise Rejected(str(reasons[0]))

    def _connection(self) -> aiosmtplib.SMTP:
        url = urlsplit(self._settings.smtp_url)
        return aiosmtplib.SMTP(
            hostname=url.hostname,
            port=url.port,
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=url.scheme == "smtps",
            start_tls=url.scheme == "smtp+starttls",
            local_hostname=_name_for_greeting(self._settings.public_host),
            timeout=_TIMEOUT_SECONDS,
        )


async def _letters(connection: AsyncConnection, tenant: int, outbox_id: UUID) -> list[Letter]:
    table = OutboxRow.table.c
    payload = await connection.scalar(sa.select(table.payload).where(table.id == outbox_id))
    return await writer(payload["notice"])(connection, tenant, UUID(payload["id"])) if payload else []


def _in_line(fact: Fact, locale: Locale) -> str | int:
    """As the letter says it. Numbers and yes or no stay what they are, for the templates' conditions."""
    return fact if isinstance(fact, int) else _one_line(fact(locale) if callable(fact) else fact)


def _one_line(text: str) -> str:
    """Whatever a name holds, it begins no header and no line of its own."""
    return _NOT_IN_A_LINE.sub(" ", text).strip()


def _support_hours(issuer: Issuer, letter: Letter) -> str | None:
    if issuer.support_hours_fr is None or issuer.support_hours_en is None:
        return issuer.support_hours_fr or issuer.support_hours_en
    return {"fr": issuer.support_hours_fr, "en": issuer.support_hours_en}[letter.locale]


def _refusal_for_good(error: Exception) -> str | None:
    """The reason, when the server has refused this recipient or this letter for ever; what it says to every letter (a
    sender, a sign-in) is for the operator to mend, and is tried again."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return _refusal_for_good(error.recipients[0])
    if isinstance(error, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError) and error.code >= 500:
        what = "letter" if isinstance(error, aiosmtplib.SMTPDataError) else "recipient"
        status = _ENHANCED_STATUS.search(error.message)
        return " ".join(filter(None, (str(error.code), status and status[0], f"{what} refused")))
    return None


def _name_for_greeting(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
