"""Plain HTTP beside GraphQL: health, the page that a QR code opens, and files."""

import asyncio
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Final
from urllib.parse import parse_qs, quote
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from api.context import DEVICE_COOKIE, DEVICE_LASTS, Services, cookie
from api.sight import note_tenant
from api.transport import asked_locale
from domain import appearance, codes, documents, jobs, money, parties, payments, reimbursements, sign_in, vouchers
from domain.errors import RefusalCode, Refused
from domain.notices import Paper
from domain.texts import Locale, Text
from reporting import members_template, pdf, reimbursement_statement, sepa

log = structlog.get_logger(__name__)

_PAGE: Final = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif }}
body {{ margin: 0; display: grid; min-height: 100vh; place-items: center }}
main {{ max-width: 24rem; padding: 2rem; text-align: center }}
input, button {{ font: inherit; padding: .6rem; box-sizing: border-box; width: 100% }}
strong {{ display: block; font-size: 2.5rem; font-variant-numeric: tabular-nums; margin: .5rem 0 }}
</style></head><body><main>{body}</main></body></html>"""
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
)
_UNKNOWN: Final = Text(
    "Cette demande de paiement n’existe pas ou plus.", "This payment request does not exist (any more)."
)
_HOW: Final = Text(
    "Ouvrez votre application et scannez ce code pour payer.", "Open your application and scan this code to pay."
)
_PAY_HERE: Final = Text("Payer depuis ce téléphone", "Pay from this phone")
_MEDIA_TYPES: Final = {
    jobs.FileFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    jobs.FileFormat.CSV: "text/csv; charset=utf-8",
    jobs.FileFormat.PARQUET: "application/vnd.apache.parquet",
    jobs.FileFormat.PDF: "application/pdf",
    jobs.FileFormat.XML: "application/xml",
}
_LONGEST_FORM: Final = 4_096
_CHANGED: Final = Text(
    "Votre mot de passe est enregistré. Vous pouvez vous connecter.", "Your password is set. You can sign in now."
)
_PASSWORD_WORDS: Final = {
    "title": Text("Choisir un mot de passe", "Choose a password"),
    "label": Text("Nouveau mot de passe", "New password"),
    "hint": Text("Dix caractères au moins.", "At least ten characters."),
    "button": Text("Enregistrer", "Save"),
}
_FORM: Final = """<h1>{title}</h1><form method="post">
<p><label for="password">{label}</label><br>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="{length}" required autofocus
 aria-describedby="hint said"></p><p id="hint">{hint}</p><p id="said" role="alert"><b>{said}</b></p>
<p><button>{button}</button></p></form>"""
_UNBUILT: Final = Text(
    "L’application web n’est pas construite sur ce serveur : il y faut Node ou l’accès aux paquets, puis"
    " <code>bin/setup</code>.",
    "The web client is not built on this server: it takes Node or access to packages, then <code>bin/setup</code>.",
)
_API_IS_AT: Final = Text(
    "L’API GraphQL est à l’adresse <code>/graphql</code>.", "The GraphQL API is at <code>/graphql</code>."
)
_PAID: Final = Text("Cette demande est déjà payée.", "This request is paid already.")
RELAY_LATE_SECONDS: Final = 60.0
"""From which age on of the oldest unsent message /readyz warns."""

COPY_LATE_SECONDS: Final = 36 * 3600.0
"""From which age on of the last copy for analysts, or of its watermark, /readyz warns."""

_READY_SECONDS: Final = 5.0
_RENDERED_AT_ONCE: Final = 2
_LINK_ENDED: Final = Text(
    "Ce lien a expiré : rouvrez le relevé dans votre espace.", "This link has expired: open the statement again."
)
_PRINT_ENDED: Final = Text(
    "Ce lien a expiré : rouvrez le bon dans votre espace.", "This link has expired: open the voucher again."
)
_STATUSES: Final = {RefusalCode.TOO_LATE: 410, RefusalCode.FORBIDDEN: 403}


class Pages:
    """The plain routes of one process."""

    def __init__(self, services: Services, newest_revision: str) -> None:
        self._services = services
        self._newest_revision = newest_revision
        self._keys = services.settings.keys
        self._rendering = asyncio.Semaphore(_RENDERED_AT_ONCE)

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """Whether the process can serve: 503 when a check has failed, with the reason beside it. A warning is no 503:
        without Redis live updates are late, with a late relay mails are, and with a late copy analysts see
        the day before, but payments go on; taking API processes away for that would turn a delay into an outage."""
        checks = await self._database_checks()
        answers = await self._services.hub.is_connected()
        checks["redis"] = _fine() if answers else _warning("Redis does not answer: live updates are late.")
        failed = any(check["status"] == "failed" for check in checks.values())
        wrong = {name: check for name, check in checks.items() if check["status"] != "ok"}
        if wrong:
            log.warning("not_ready" if failed else "ready_with_warnings", checks=wrong)
        headers = {"cache-control": "no-store"}
        return JSONResponse({"ready": not failed, "checks": checks}, 503 if failed else 200, headers)

    async def _database_checks(self) -> dict[str, dict[str, str]]:
        unknown = _warning("Not known: the database does not answer, or is not migrated.")
        checks = {"database": _fine(), "migrations": unknown, "relay": unknown, "reporting": unknown}
        try:
            async with asyncio.timeout(_READY_SECONDS), self._services.database.connection() as connection:
                revision = await connection.fetchval("SELECT version_num FROM alembic_version")
                # A newer one only adds: while a new version is brought in, this program goes on.
                if revision is None or revision < self._newest_revision:
                    reason = f"The database is at revision {revision}, this program needs {self._newest_revision}."
                    return checks | {"migrations": _failed(reason)}
                checks["migrations"] = _fine()
                late = await connection.fetchval("SELECT relay_seconds FROM lateness()")
                copies = await connection.fetchrow("SELECT *, reporting_as_of() FROM reporting_state()")
                uncopied = await connection.fetchval("SELECT reporting_uncopied_seconds()")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("database_check_failed", error=type(error).__name__)
            return checks | {"database": _failed("The database does not answer.")}
        in_time = late <= RELAY_LATE_SECONDS
        checks["relay"] = (
            _fine() if in_time else _warning(f"The oldest message has waited for {late:.0f} s to be sent.")
        )
        checks["reporting"] = _fine() if copies is None else _copied(*copies)
        if uncopied > COPY_LATE_SECONDS:
            reason = f"An issuer has waited for {uncopied / 3600:.0f} hours for its first copy for analysts."
            checks["reporting"] |= _warning(reason)
        return checks

    async def offer(self, request: Request) -> Response:
        """What a telephone sees that scans a QR code without the application: who asks how much, and how to pay."""
        locale = asked_locale(request.headers.get("accept-language"))
        token = request.path_params["token"]
        try:
            tenant = codes.tenant_of_token(token)
        except Refused:
            return _page(404, locale, "Escarcelle", f"<p>{_UNKNOWN.in_locale(locale)}</p>")
        note_tenant(request.scope, tenant)
        async with self._services.database.reading(tenant) as connection:
            offer = await payments.offer(connection, tenant, token)
        if offer is None:
            return _page(404, locale, "Escarcelle", f"<p>{_UNKNOWN.in_locale(locale)}</p>")
        asked = offer.request
        status = payments.STATUS_LABELS[asked.status].in_locale(locale)
        if asked.status is payments.PaymentRequestStatus.AWAITING_PAYMENT:
            status = _HOW.in_locale(locale)
        elif asked.amount_received is not None:
            status = _PAID.in_locale(locale)
        amount = money.formatted(asked.amount_requested, locale)
        name = html.escape(offer.merchant_name or "")
        place = html.escape(offer.point_of_sale_name or "")
        body = f"<p>{name}<br>{place}</p><strong>{amount}</strong><p>{html.escape(status)}</p>"
        if asked.status is payments.PaymentRequestStatus.AWAITING_PAYMENT:
            # A token of ours holds nothing that would end an attribute.
            body += f'<p><a href="/offers/{token}">{_PAY_HERE.in_locale(locale)}</a></p>'
        return _page(200, locale, f"{amount} · {name}", body)

    async def mark(self, request: Request) -> Response:
        """An issuer's mark, for anyone; under another digest, or of an issuer without one, there is none."""
        issuer = await parties.issuer_of_slug(self._services.database, request.path_params["slug"])
        if issuer is None:
            raise HTTPException(404)
        async with self._services.database.reading(issuer.tenant) as connection:
            shown = await appearance.appearance(connection, issuer.tenant)
        if shown.mark is None or shown.mark_digest != request.path_params["digest"]:
            raise HTTPException(404)
        headers = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        return Response(shown.mark, media_type="image/png", headers=headers)

    async def file(self, request: Request) -> Response:
        """The file behind a signed link: 404 for a link that we have not signed, 410 once the file has expired."""
        locale = asked_locale(request.headers.get("accept-language"))
        try:
            file = await self._file(request)
        except Refused as refused:
            return _refused(refused, locale)
        headers = {
            "content-type": file.media_type,
            "content-length": str(file.size),
            "content-disposition": _attachment(file.name),
            "cache-control": "private, no-store",
            "x-content-type-options": "nosniff",
        }
        if request.method == "HEAD":
            return Response(headers=headers)
        return StreamingResponse(self._pieces(file), headers=headers)

    async def statement(self, request: Request) -> Response:
        """A member's statement behind a signed link: 404 for a link that we have not signed, 410 once it has ended."""
        locale = asked_locale(request.headers.get("accept-language"))
        try:
            tenant, statement_id = self._behind(request, vouchers.DOWNLOAD)
            async with self._services.database.reading(tenant) as connection:
                (paper,) = await vouchers.papers(connection, statement_id=statement_id)
        except Refused as refused:
            return _refused(refused, locale)
        return await self._rendered(paper)

    async def voucher(self, request: Request) -> Response:
        """A presented voucher to print, behind a link that its reader's session has signed: 404 for a link that we have
        not signed, or that leads to nothing its reader sees, 410 once the link or the session has ended."""
        locale = asked_locale(request.headers.get("accept-language"))
        try:
            prefix, tenant, voucher_id = codes.read_global_id(request.path_params["id"])
            purpose = vouchers.page_purpose(voucher_id)
            signed_for, session_id, expires_at = codes.read_expiring_token(
                self._keys, purpose, request.path_params["token"]
            )
            if (prefix, tenant) != (vouchers.Voucher.prefix, signed_for):
                raise Refused.not_found()
            note_tenant(request.scope, tenant)
            reader = await sign_in.actor_of_session(self._services.database, tenant, session_id)
            if datetime.now(UTC) >= expires_at or reader is None or reader.must_change_password:
                raise Refused(RefusalCode.TOO_LATE, _PRINT_ENDED)
            locale = reader.locale or locale
            async with self._services.database.reading(tenant) as connection:
                paper = await vouchers.page_of(connection, reader, voucher_id, self._keys, locale)
        except Refused as refused:
            return _refused(refused, locale)
        return await self._rendered(paper)

    async def _rendered(self, paper: Paper) -> Response:
        """It takes a core for a while: a few at once, in threads."""
        async with self._rendering:
            content = await asyncio.to_thread(pdf.rendered, paper.template, [paper.words])
        return _privately(content, jobs.FileFormat.PDF, paper.name)

    async def template(self, request: Request) -> Response:
        """An empty workbook, which says nothing of anybody."""
        name = request.path_params["name"]
        locale = members_template.language_of(name)
        if locale is None:
            return PlainTextResponse("Not found\n", 404)
        content = await asyncio.to_thread(members_template.made, locale)
        headers = {"content-type": _MEDIA_TYPES[jobs.FileFormat.XLSX], "content-disposition": _attachment(name)}
        return Response(content, headers=headers)

    async def transfers(self, request: Request) -> Response:
        """A file for the bank behind a signed link: 404 for a link that we have not signed, 410 once it has ended."""
        locale = asked_locale(request.headers.get("accept-language"))
        try:
            tenant, file_id = self._behind(request, reimbursements.DOWNLOAD)
            async with self._services.database.reading(tenant) as connection:
                file = await reimbursements.linked_file(connection, file_id)
                if file is None:
                    raise Refused.not_found()
                ordered, issuer = await reimbursements.sent_in(connection, file_id), await parties.issuer(connection)
        except Refused as refused:
            return _refused(refused, locale)
        async with self._rendering:
            content = await asyncio.to_thread(sepa.transfers, file, ordered, issuer)
        return _privately(content, jobs.FileFormat.XML, f"{issuer.file_mark}{file.reference}.xml")

    async def reimbursement(self, request: Request) -> Response:
        """A reimbursement's statement behind a signed link, as pages or as a workbook: 404 for a link that we have not
        signed, 410 once it has ended."""
        locale = asked_locale(request.query_params.get("language") or request.headers.get("accept-language"))
        try:
            tenant, reimbursement_id = self._behind(request, reimbursements.STATEMENT)
            async with self._services.database.reading(tenant) as connection:
                found = await reimbursement_statement.statement(connection, reimbursement_id)
            name = request.path_params["name"]
            if found is None or name not in reimbursements.STATEMENT_NAMES:
                raise Refused.not_found()
        except Refused as refused:
            return _refused(refused, locale)
        if name == reimbursements.AS_PAGES:
            return await self._rendered(reimbursement_statement.paper(found, locale))
        async with self._rendering:
            name, content = await asyncio.to_thread(reimbursement_statement.workbook, found, locale)
        return _privately(content, jobs.FileFormat.XLSX, name)

    def _behind(self, request: Request, purpose: str) -> tuple[int, UUID]:
        """The tenant and the object that a signed link leads to. Raises Refused: NOT_FOUND, TOO_LATE."""
        tenant, object_id, expires_at = codes.read_expiring_token(self._keys, purpose, request.path_params["token"])
        note_tenant(request.scope, tenant)
        if datetime.now(UTC) >= expires_at:
            raise Refused(RefusalCode.TOO_LATE, _LINK_ENDED)
        return tenant, object_id

    async def _file(self, request: Request) -> "_File":
        """Raises Refused: NOT_FOUND, TOO_LATE."""
        token = request.path_params["token"]
        if len(token) == codes.EXPIRING_TOKEN_LENGTH:
            tenant, document_id, expires_at = codes.read_expiring_token(self._keys, documents.DOWNLOAD, token)
            note_tenant(request.scope, tenant)
            async with self._services.database.reading(tenant) as connection:
                document = await documents.document(connection, tenant, document_id, expires_at)
            return _File(tenant, document.id, document.name, document.media_type, document.size, documents.chunk)
        tenant, job_id = codes.read_signed_token(self._keys, jobs.DOWNLOAD, token)
        note_tenant(request.scope, tenant)
        async with self._services.database.reading(tenant) as connection:
            job = await jobs.file_of(connection, tenant, job_id)
        assert job.file_name is not None and job.file_bytes is not None, "there is a file"
        return _File(tenant, job.id, job.file_name, _MEDIA_TYPES[job.format], job.file_bytes, jobs.chunk)

    async def _pieces(self, file: "_File") -> AsyncIterator[bytes]:
        """A connection for each piece: who downloads slowly must not keep one."""
        for n in count():
            async with self._services.database.reading(file.tenant) as connection:
                piece = await file.chunk(connection, file.id, n)
            if piece is None:
                return
            yield piece

    async def password(self, request: Request) -> Response:
        """Where a mailed link leads: a form for a new password, without a script. The device is known from then on."""
        locale, token = asked_locale(request.headers.get("accept-language")), request.path_params["token"]
        try:
            tenant, reset_id = codes.read_signed_token(self._keys, sign_in.RESET_LINK, token)
            note_tenant(request.scope, tenant)
        except Refused as refused:
            return _page(404, locale, "Escarcelle", f"<p>{html.escape(refused.message(locale))}</p>")
        said = ""
        if request.method == "POST":
            try:
                await self._services.sign_in_limits.count(request.client.host if request.client else "")
                new = await _typed(request, "password")
                device_token = await sign_in.reset_password(self._services.database, tenant, reset_id, new)
            except Refused as refused:
                said = refused.message(locale)
            else:
                done = _page(200, locale, "Escarcelle", f"<p>{_CHANGED.in_locale(locale)}</p>")
                done.headers.append("set-cookie", cookie(DEVICE_COOKIE, device_token, DEVICE_LASTS))
                return done
        words = {name: text.in_locale(locale) for name, text in _PASSWORD_WORDS.items()}
        form = _FORM.format(said=html.escape(said), length=sign_in.SHORTEST_PASSWORD, **words)
        return _page(422 if said else 200, locale, words["title"], form, form_action="'self'")

    async def mails(self, request: Request) -> Response:
        """To the page that shows the mails, where a mail catcher keeps them on the machine."""
        page = self._services.settings.mail_page_url
        return RedirectResponse(page) if page else PlainTextResponse("Not found\n", 404)

    async def unbuilt(self, request: Request) -> Response:
        """What stands where the web client would, on a server that has none."""
        locale = asked_locale(request.headers.get("accept-language"))
        body = "".join(f"<p>{text.in_locale(locale)}</p>" for text in (_UNBUILT, _API_IS_AT))
        return _page(404, locale, "Escarcelle", f"<h1>Escarcelle</h1>{body}")


@dataclass(frozen=True)
class _File:
    """What a link leads to; `chunk` reads its pieces."""

    tenant: int
    id: UUID
    name: str
    media_type: str
    size: int
    chunk: Callable[[AsyncConnection, UUID, int], Awaitable[bytes | None]]


def _attachment(name: str) -> str:
    """To be saved under that name, never shown in place (RFC 6266)."""
    plain = re.sub(r"[^\w .()-]", "_", name, flags=re.ASCII)
    return f'attachment; filename="{plain}"' + (f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else "")


def _fine() -> dict[str, str]:
    return {"status": "ok"}


def _warning(reason: str) -> dict[str, str]:
    return {"status": "warning", "reason": reason}


def _copied(
    copied_at: datetime, watermark: int, age_seconds: float, still_seconds: float, as_of: datetime
) -> dict[str, str]:
    """The copy for analysts of the issuer whose is oldest."""
    check = _fine()
    if age_seconds > COPY_LATE_SECONDS:
        check = _warning(f"The last copy for analysts is {age_seconds / 3600:.0f} hours old.")
    elif still_seconds > COPY_LATE_SECONDS:
        check = _warning(
            f"The watermark of the copies for analysts has stood still for {still_seconds / 3600:.0f} hours:"
            " a transaction is open."
        )
    instants = {"copied_at": copied_at, "as_of": as_of}
    said = {name: instant.astimezone(UTC).isoformat() for name, instant in instants.items()}
    return check | said | {"watermark": str(watermark)}


def _failed(reason: str) -> dict[str, str]:
    return {"status": "failed", "reason": reason}


async def _typed(request: Request, field: str) -> str:
    """What was typed into a field of a form. Raises Refused (INVALID) for a body that no form of ours sends."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise Refused.invalid(field, "Le formulaire est trop long.", "The form is too long.")
    try:
        return parse_qs(body.decode(), max_num_fields=10).get(field, [""])[0]
    except ValueError:
        raise Refused.invalid(field, "Le formulaire est illisible.", "The form cannot be read.") from None


def _privately(content: bytes, format: jobs.FileFormat, name: str) -> Response:
    headers = {
        "content-type": _MEDIA_TYPES[format],
        "content-disposition": _attachment(name),
        "cache-control": "private, no-store",
    }
    return Response(content, headers=headers)


def _refused(refused: Refused, locale: Locale) -> Response:
    return _page(
        _STATUSES.get(refused.code, 404), locale, "Escarcelle", f"<p>{html.escape(refused.message(locale))}</p>"
    )


def _page(status: int, locale: Locale, title: str, body: str, *, form_action: str = "'none'") -> Response:
    content = _PAGE.format(language=locale.value, title=title, body=body)
    headers = {
        "content-security-policy": _POLICY.format(form_action=form_action),
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
    }
    return HTMLResponse(content, status, headers)
