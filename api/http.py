"""Plain HTTP beside GraphQL: health, and the page that a QR code opens."""

import html
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from api.context import Services
from api.transport import asked_locale
from domain import codes, money, payments
from domain.errors import Refused
from domain.texts import Locale, Text

log = structlog.get_logger(__name__)

_PAGE: Final = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif }}
body {{ margin: 0; display: grid; min-height: 100vh; place-items: center }}
main {{ max-width: 24rem; padding: 2rem; text-align: center }}
strong {{ display: block; font-size: 2.5rem; font-variant-numeric: tabular-nums; margin: .5rem 0 }}
</style></head><body><main>{body}</main></body></html>"""
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_UNKNOWN: Final = Text(
    "Cette demande de paiement n’existe pas ou plus.", "This payment request does not exist (any more)."
)
_HOW: Final = Text(
    "Ouvrez votre application et scannez ce code pour payer.", "Open your application and scan this code to pay."
)
_PAID: Final = Text("Payé : {paid}", "Paid: {paid}")


class Pages:
    """The plain routes of one process."""

    def __init__(self, services: Services, newest_revision: str) -> None:
        self._services = services
        self._newest_revision = newest_revision

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """Whether the process can serve: the database answers and is migrated. 503 with reasons when not."""
        problems: list[str] = []
        try:
            async with self._services.database.connection() as connection:
                revision = await connection.fetchval("SELECT version_num FROM alembic_version")
            if revision != self._newest_revision:
                problems.append(f"database is at revision {revision}, this program needs {self._newest_revision}")
        except Exception as error:
            log.warning("not ready", reason=type(error).__name__)
            problems.append("database does not answer")
        if not await self._services.hub.is_connected():
            problems.append("redis does not answer: live updates are late")
        down = [problem for problem in problems if not problem.startswith("redis")]
        return JSONResponse({"ready": not down, "problems": problems}, status_code=503 if down else 200)

    async def offer(self, request: Request) -> Response:
        """What a telephone sees that scans a QR code without the application: who asks how much, and how to pay."""
        locale = asked_locale(request.headers.get("accept-language"))
        token = request.path_params["token"]
        try:
            tenant = codes.tenant_of_token(token)
        except Refused:
            return _page(404, locale, "Escarcelle", f"<p>{_UNKNOWN.in_locale(locale)}</p>")
        async with self._services.database.reading(tenant) as connection:
            offer = await payments.offer(connection, tenant, token)
        if offer is None:
            return _page(404, locale, "Escarcelle", f"<p>{_UNKNOWN.in_locale(locale)}</p>")
        asked = offer.request
        status = payments.STATUS_LABELS[asked.status].in_locale(locale)
        if asked.status is payments.PaymentRequestStatus.AWAITING_PAYMENT:
            status = _HOW.in_locale(locale)
        elif asked.amount_paid is not None:
            status = _PAID.in_locale(locale, paid=money.shown(asked.amount_paid))
        amount = money.formatted(asked.amount_requested, locale)
        name = html.escape(offer.merchant_name or "")
        place = html.escape(offer.point_of_sale_name or "")
        body = f"<p>{name}<br>{place}</p><strong>{amount}</strong><p>{html.escape(status)}</p>"
        return _page(200, locale, f"{amount} · {name}", body)

    async def mails(self, request: Request) -> Response:
        """To the page that shows the mails, where a mail catcher keeps them on the machine."""
        page = self._services.settings.mail_page_url
        return RedirectResponse(page) if page else PlainTextResponse("Not found\n", 404)

    async def home(self, request: Request) -> Response:
        """Where one has arrived."""
        locale = asked_locale(request.headers.get("accept-language"))
        said = Text("L’API GraphQL est à l’adresse", "The GraphQL API is at").in_locale(locale)
        return _page(200, locale, "Escarcelle", f"<h1>Escarcelle</h1><p>{said} <code>/graphql</code>.</p>")


def _page(status: int, locale: Locale, title: str, body: str) -> Response:
    content = _PAGE.format(language=locale.value, title=title, body=body)
    headers = {"content-security-policy": _POLICY, "cache-control": "no-store", "referrer-policy": "no-referrer"}
    return HTMLResponse(content, status, headers)
