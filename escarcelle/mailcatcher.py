"""The local post box: takes every mail that is sent to it, keeps it as a file, and shows it on a page. Nothing leaves
the machine, and nothing that a mail contains is executed or fetched."""

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from babel.dates import format_datetime
from jinja2 import DictLoader, Environment
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from domain.texts import Locale, Text
from escarcelle.embedded import private_folder

_SIZE_LIMIT_BYTES = 25_000_000
_SHOWN = 500
_NAME_TIME = "%Y%m%dT%H%M%S.%fZ"
_RECIPIENTS_HEADER = "X-Escarcelle-Envelope-To"
_ZONE = ZoneInfo("Europe/Paris")

_TEXTS = {
    "title": Text("Courriers reçus", "Mails received"),
    "nothing_leaves": Text(
        "Ces courriers n’ont pas quitté cette machine.",
        "These mails have not left this machine.",
    ),
    "none_yet": Text("Aucun courrier pour l’instant.", "No mail yet."),
    "refresh": Text("Actualiser", "Refresh"),
    "back": Text("Tous les courriers", "All mails"),
    "received": Text("Reçu le", "Received"),
    "sender": Text("De", "From"),
    "recipients": Text("À", "To"),
    "subject": Text("Objet", "Subject"),
    "no_subject": Text("(sans objet)", "(no subject)"),
    "page": Text("Version illustrée", "Formatted version"),
    "text": Text("Version texte", "Text version"),
    "headers": Text("En-têtes", "Headers"),
    "raw": Text("Télécharger le fichier .eml", "Download the .eml file"),
    "gone": Text("Ce courrier n’existe pas.", "There is no such mail."),
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5d6675; --line: #dfe3ea; --paper: #fff; --ground: #f5f6f8;
  --accent: #1f5f8b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaef; --soft: #a3abb8; --line: #343b47; --paper: #1d222b;
  --ground: #14181f; --accent: #7db8e0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main { max-width: 60rem; margin: 0 auto; padding: 1rem 1.25rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; padding-top: 2rem; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; font-weight: 600; margin: 2rem 0 .5rem; color: var(--soft); }
header p { margin: 0; color: var(--soft); flex: 1; }
a { color: var(--accent); }
a:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
ul.mails { list-style: none; margin: 0; padding: 0; background: var(--paper); border: 1px solid var(--line);
  border-radius: .5rem; }
ul.mails li + li { border-top: 1px solid var(--line); }
ul.mails a { display: grid; grid-template-columns: 11rem 16rem 1fr; gap: .25rem 1rem; padding: .75rem 1rem;
  text-decoration: none; color: inherit; }
ul.mails a:hover { background: var(--ground); }
ul.mails span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
ul.mails .subject { font-weight: 600; }
time, .to { color: var(--soft); font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
iframe { width: 100%; height: 70vh; border: 1px solid var(--line); border-radius: .5rem; background: #fff; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--paper); border: 1px solid var(--line);
  border-radius: .5rem; padding: 1rem; margin: 0; }
@media (max-width: 44rem) { ul.mails a { grid-template-columns: 1fr; } }
"""

_TEMPLATES = {
    "layout": """<!doctype html>
<html lang="{{ locale }}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% block title %}{{ t.title }}{% endblock %} — Escarcelle</title><link rel="stylesheet" href="/style.css"></head>
<body>{% block body %}{% endblock %}</body>
</html>""",
    "list": """{% extends "layout" %}{% block body %}
<header><h1>{{ t.title }}</h1><p>{{ t.nothing_leaves }}</p><a href="/?lang={{ locale }}">{{ t.refresh }}</a>
<a href="/?lang={{ other }}" hreflang="{{ other }}" lang="{{ other }}">{{ other_name }}</a></header>
<main>{% if mails %}<ul class="mails">{% for mail in mails %}
<li><a href="/mails/{{ mail.key }}?lang={{ locale }}">
<time datetime="{{ mail.received_at.isoformat() }}">{{ day(mail.received_at) }}</time>
<span class="to">{{ mail.to | join(", ") }}</span>
<span class="subject">{{ mail.subject or t.no_subject }}</span></a></li>
{% endfor %}</ul>{% else %}<p>{{ t.none_yet }}</p>{% endif %}</main>{% endblock %}""",
    "mail": """{% extends "layout" %}{% block title %}{{ mail.subject or t.no_subject }}{% endblock %}{% block body %}
<header><h1>{{ mail.subject or t.no_subject }}</h1><p></p><a href="/?lang={{ locale }}">{{ t.back }}</a>
<a href="/mails/{{ mail.key }}?lang={{ other }}" hreflang="{{ other }}" lang="{{ other }}">{{ other_name }}</a></header>
<main><dl><dt>{{ t.received }}</dt>
<dd><time datetime="{{ mail.received_at.isoformat() }}">{{ day(mail.received_at) }}</time></dd>
<dt>{{ t.sender }}</dt><dd>{{ mail.sender }}</dd><dt>{{ t.recipients }}</dt><dd>{{ mail.to | join(", ") }}</dd></dl>
{% if mail.html is not none %}<h2>{{ t.page }}</h2>
<iframe src="/mails/{{ mail.key }}/page" title="{{ t.page }}" sandbox="allow-popups allow-popups-to-escape-sandbox"
referrerpolicy="no-referrer"></iframe>{% endif %}
{% if mail.text is not none %}<h2>{{ t.text }}</h2><pre>{{ mail.text }}</pre>{% endif %}
<h2>{{ t.headers }}</h2><pre>{% for name, value in mail.headers %}{{ name }}: {{ value }}
{% endfor %}</pre><p><a href="/mails/{{ mail.key }}.eml" download>{{ t.raw }}</a></p></main>{% endblock %}""",
    "missing": '{% extends "layout" %}{% block body %}<main><p>{{ t.gone }}</p></main>{% endblock %}',
}

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Styles in the mail and pictures inside it show; scripts, forms and everything remote do not.
_MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it arrived. `to` are the addresses it was handed over for, hidden copies included."""

    key: str
    received_at: datetime
    sender: str
    to: list[str]
    subject: str
    message_id: str
    text: str | None
    html: str | None
    headers: list[tuple[str, str]]


class MailFolder:
    """The mails, a file each, named by arrival and Message-ID. The same mail twice is two files."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)

    def keep(self, content: bytes, recipients: list[str]) -> None:
        """Keep a mail as it came, under a line that names its recipients. It appears whole or not at all."""
        identifier = str(message_from_bytes(content, policy=policy.compat32).get("Message-ID", ""))
        digest = hashlib.sha256(identifier.encode(errors="replace")).hexdigest()[:12]
        arrival = datetime.now(UTC)
        while (file := self._folder / f"{arrival.strftime(_NAME_TIME)}-{digest}.eml").exists():
            arrival += timedelta(microseconds=1)
        addresses = ", ".join(address.replace("\r", "").replace("\n", "") for address in recipients)
        temporary = file.with_suffix(".part")
        temporary.write_bytes(f"{_RECIPIENTS_HEADER}: {addresses}\r\n".encode() + content)
        temporary.chmod(0o600)
        temporary.replace(file)

    def latest(self) -> list[Mail]:
        """The last 500 mails, the newest first."""
        files = sorted(self._folder.glob("*.eml"), reverse=True)[:_SHOWN]
        return [_read(file) for file in files]

    def mail(self, key: str) -> Mail | None:
        """One mail, by its key."""
        file = self.file(key)
        return _read(file) if file else None

    def page(self, key: str) -> str | None:
        """A mail's formatted version, with the pictures that came inside the mail written into it."""
        file = self.file(key)
        message = _parsed(file) if file else None
        part = message.get_body(("html",)) if message else None
        if message is None or part is None:
            return None
        html = _content(part)
        for picture in message.walk():
            identifier = _header(picture, "Content-ID").strip("<> ")
            if identifier and picture.get_content_maintype() == "image":
                data = base64.b64encode(_payload(picture)).decode()
                html = html.replace(f"cid:{identifier}", f"data:{picture.get_content_type()};base64,{data}")
        return html

    def file(self, key: str) -> Path | None:
        """The file of a mail."""
        return next((file for file in self._folder.glob("*.eml") if file.stem == key), None)


def catch_mail(smtp_port: int, page_port: int, folder: Path) -> None:
    """Receive mail on 127.0.0.1 and show it on a page of its own port, until SIGTERM."""
    asyncio.run(_serve(smtp_port, page_port, MailFolder(folder)))


async def _serve(smtp_port: int, page_port: int, mails: MailFolder) -> None:
    receiver = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            _Receiver(mails),
            data_size_limit=_SIZE_LIMIT_BYTES,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident="Escarcelle",
        ),
        "127.0.0.1",
        smtp_port,
    )
    page = uvicorn.Config(
        page_app(mails),
        host="127.0.0.1",
        port=page_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    async with receiver:
        await uvicorn.Server(page).serve()


class _Receiver:
    def __init__(self, mails: MailFolder) -> None:
        self._mails = mails

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 — its name
        content = envelope.original_content or b""
        await asyncio.to_thread(self._mails.keep, content, [str(address) for address in envelope.rcpt_tos])
        return "250 2.0.0 OK"


def page_app(mails: MailFolder) -> Starlette:
    """The page and its JSON."""
    templates = Environment(loader=DictLoader(_TEMPLATES), autoescape=True)

    def show(request: Request, template: str, status: int = 200, **values: object) -> Response:
        locale = Locale.EN if request.query_params.get("lang") == "en" else Locale.FR
        html = templates.get_template(template).render(
            locale=locale,
            other=Locale.FR if locale is Locale.EN else Locale.EN,
            other_name="Français" if locale is Locale.EN else "English",
            t={name: text.in_locale(locale) for name, text in _TEXTS.items()},
            day=lambda moment: format_datetime(moment.astimezone(_ZONE), "d MMM y HH:mm:ss", locale=locale.value),
            **values,
        )
        return HTMLResponse(html, status, headers={"Content-Security-Policy": _PAGE_POLICY} | _HEADERS)

    def index(request: Request) -> Response:
        return show(request, "list", mails=mails.latest())

    def one(request: Request) -> Response:
        mail = mails.mail(request.path_params["key"])
        return show(request, "mail", mail=mail) if mail else show(request, "missing", 404)

    def page(request: Request) -> Response:
        html = mails.page(request.path_params["key"])
        if html is None:
            return show(request, "missing", 404)
        # Links open beside the page: inside the frame nothing may run, so nothing they lead to would work.
        html = '<!doctype html><meta charset="utf-8"><base target="_blank">' + html
        return HTMLResponse(html, headers={"Content-Security-Policy": _MAIL_POLICY} | _HEADERS)

    def raw(request: Request) -> Response:
        file = mails.file(request.path_params["key"])
        if file is None:
            return show(request, "missing", 404)
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'} | _HEADERS
        return Response(file.read_bytes(), media_type="message/rfc822", headers=headers)

    def as_json(_request: Request) -> Response:
        shown = ("key", "to", "subject", "message_id", "text", "html")
        rows = [
            {"received_at": mail.received_at.isoformat()} | {name: getattr(mail, name) for name in shown}
            for mail in mails.latest()
        ]
        return JSONResponse(rows, headers=_HEADERS)

    def style(_request: Request) -> Response:
        return Response(_STYLE, media_type="text/css", headers=_HEADERS)

    routes = [
        Route("/", index),
        Route("/mails.json", as_json),
        Route("/mails/{key}.eml", raw),
        Route("/mails/{key}/page", page),
        Route("/mails/{key}", one),
        Route("/style.css", style),
    ]
    # A foreign page must not read these mails by giving its own name this address.
    own_names = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)
    return Starlette(routes=routes, middleware=[own_names])


# A mail never changes, and whoever waits for the next one asks for all of them again and again.
@lru_cache(maxsize=1_000)
def _read(file: Path) -> Mail:
    message = _parsed(file)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    recipients = _header(message, _RECIPIENTS_HEADER)
    return Mail(
        key=file.stem,
        received_at=datetime.strptime(file.stem.rpartition("-")[0], _NAME_TIME).replace(tzinfo=UTC),
        sender=_header(message, "From"),
        to=recipients.split(", ") if recipients else [],
        subject=_header(message, "Subject"),
        message_id=_header(message, "Message-ID"),
        text=_content(text) if text else None,
        html=_content(html) if html else None,
        headers=[(name, str(value)) for name, value in message.raw_items() if name != _RECIPIENTS_HEADER],
    )


def _parsed(file: Path) -> EmailMessage:
    return message_from_bytes(file.read_bytes(), policy=policy.default)


def _header(message: Message, name: str) -> str:
    """A header, decoded; as it stands in the mail when it cannot be."""
    try:
        return str(message.get(name, ""))
    except Exception:  # the standard parser raises nearly anything on headers that break the rules
        return str(dict(message.raw_items()).get(name, ""))


def _content(part: Message) -> str:
    payload = _payload(part)
    try:
        return payload.decode(part.get_content_charset("utf-8"), errors="replace")
    except LookupError:
        return payload.decode(errors="replace")


def _payload(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
