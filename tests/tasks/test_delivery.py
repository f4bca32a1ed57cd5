"""Mails: what they say, and that each arrives, whatever breaks on the way."""

import asyncio
import dataclasses
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
import redis

from domain import calendar, messages, parties, payments, support
from domain.appearance import OWN_ACCENT, Shades
from domain.codes import new_id
from domain.notices import Letter, writer
from domain.outbox import FAILURES_BEFORE_GIVING_UP
from domain.texts import Locale, Text
from domain.work import perform
from tasks.actors import Tasks
from tasks.broker import open_broker
from tasks.delivery import Post, Rejected
from tasks.relay import Relay
from tests.tasks import Cast, PostBox, database_of, process_working, settings_for, until, working
from tests.world import Servers

_ACCENT = Shades.of(OWN_ACCENT)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers.start(tmp_path_factory.mktemp("delivery"))
    yield started
    started.stop()


def test_a_payment_is_told_to_the_merchant_in_french(servers: Servers) -> None:
    """P29, word for word."""

    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.world.freeze(datetime(2020, 6, 24, 9, 59, 35, tzinfo=UTC))
            request = await cast.ask("50")
            await cast.pay(request)
            message_id = await cast.one_mail()
            async with working(settings_for(servers, box)):
                await until(cast.is_told)
            (mail,) = box.mails
            assert mail["Subject"] == "[TEST] Paiement reçu : 50,00\u00a0€ (panier P29)"
            assert mail["To"] == "club@example.com"
            assert mail["From"] == servers.settings.mail_from
            assert mail["Message-ID"] == f"<{message_id}.1@127.0.0.1>"
            assert mail["Auto-Submitted"] == "auto-generated"
            assert mail["Content-Language"] == "fr"
            assert mail.get_content_type() == "multipart/alternative"
            text, html = _text(mail), _html(mail)
            lines = [line.replace("\u00a0", " ") for line in text.splitlines()]
            for line in (
                f"N° de transaction : {request.transaction_number}",
                "Identifiant : client2@example.com",
                "N° de panier : P29",
                "Date : 24/06/2020 à 11:59:35",
                "Montant réglé : 50,00 €",
                f"Ouvrir mon espace : http://127.0.0.1:8000/payments/{request.global_id}",
                "*** Ceci est un essai : aucune somme réelle n’est en jeu. ***",
                "Agence du Temps Libre",
            ):
                assert line in lines
            assert "il reste" not in text
            assert "24/06/2020 à 11:59:35" in html
            assert f'href="http://127.0.0.1:8000/payments/{request.global_id}"' in html
            assert "Ceci est un essai" in html
            assert await cast.count("inbox", f"message_id = '{message_id}'") == 1

    asyncio.run(scenario())


def test_a_payment_in_part_is_told_in_english_and_without_the_mark_of_a_sandbox(servers: Servers) -> None:
    """What remains is settled by other means (P23)."""

    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database, "en", sandbox=False, support_phone="04 00 00 00 00")
            request = await cast.ask("40", customer_identifier="client2@example.com", validation_days=2)
            await cast.world.as_owner("DELETE FROM outbox WHERE tenant = $1", cast.world.tenant)
            await cast.pay(request, "30")
            async with working(settings_for(servers, box)):
                await until(cast.is_told)
            (mail,) = box.mails
            assert mail["Subject"] == "Payment received: €30.00 (basket P29)"
            last_day = calendar.today(datetime.now(UTC)) + timedelta(days=2)
            text, html = _text(mail), _html(mail)
            for words in (
                "Amount requested: €40.00",
                "Amount paid: €30.00",
                "€10.00 remain to be settled by other means",
                f"awaits your validation, until the end of {last_day:%d/%m/%Y}",
                "04 00 00 00 00",
            ):
                assert words in text
            assert "€10.00 remain to be settled by other means" in html
            assert "TEST" not in mail.as_string()

    asyncio.run(scenario())


def test_P5_a_message_to_the_issuer_is_answered_with_reply(servers: Servers) -> None:
    """What somebody has written stands apart from what the program says, and runs nowhere."""

    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database, "en", sandbox=False, support_email="help@example.org")
            words = "Two lines,\r\n<script>alert(1)</script>"
            sent = await perform(database, cast.manager, support.contact, "Slips {0}", words)
            assert isinstance(sent, support.SupportMessage)
            letters = await _written(cast, sent.id, "support_contacted")
            async with working(settings_for(servers, box)):
                await until(cast.is_told)
            to_issuer, copy = box.mails
            assert (to_issuer["To"], to_issuer["Reply-To"]) == ("help@example.org", "club@example.com")
            assert to_issuer["Auto-Submitted"] is None, "a person waits for the answer"
            assert to_issuer["Subject"] == "Message de Club : Slips {0}"
            assert (copy["To"], copy["Reply-To"]) == ("club@example.com", None)
            assert copy["Auto-Submitted"] == "auto-generated"
            assert copy["Subject"] == "Your message: Slips {0}"
            for mail in box.mails:
                assert "> Two lines,\n> <script>alert(1)</script>\n" in _text(mail).replace("\r\n", "\n")
                assert "Two lines,<br>&lt;script&gt;alert(1)&lt;/script&gt;" in _html(mail)
            assert "Commerçant : CK – Canoë Kayak Club" in _text(to_issuer).splitlines()
            async with database.reading(cast.world.tenant) as connection:
                issuer = await parties.issuer(connection)
            said = {
                "support_contacted": ("Répondez à ce mail", "Reply to this e-mail"),
                "support_copied": ("Nous avons bien reçu", "We have received"),
            }
            assert [letter.template for letter in letters] == list(said)
            for letter in letters:
                for locale, expected in zip(Locale, said[letter.template], strict=True):
                    mail = Post(settings_for(servers, box)).compose(
                        issuer, _ACCENT, dataclasses.replace(letter, locale=locale), new_id(), 1
                    )
                    assert "\n\n\n" not in _text(mail)
                    assert expected in _text(mail) and expected in _html(mail)

    asyncio.run(scenario())


def test_P5_what_was_written_to_an_issuer_that_is_no_longer_reached_is_given_up(servers: Servers) -> None:
    """The operator finds it among the dead letters, and sends it again once there is an address."""

    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database, support_email="help@example.org")
            await perform(database, cast.manager, support.contact, "Objet", "Texte")
            await cast.world.as_owner("UPDATE issuers SET support_email = NULL WHERE tenant = $1", cast.world.tenant)
            async with working(settings_for(servers, box)):
                await until(cast.is_told)
            assert box.mails == []
            assert await cast.count("dead_letters", "topic = 'mail'") == 1

    asyncio.run(scenario())


def test_every_letter_can_be_written_in_both_languages(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database, sandbox=False)
            tomorrow = calendar.today(datetime.now(UTC)) + timedelta(days=1)
            request = await cast.ask(
                "40", customer_identifier="client2@example.com", payment_deadline=tomorrow, validation_days=2
            )
            letters = await _written(cast, request.id, "payment_asked")
            await cast.pay(request)
            letters += await _written(cast, request.id, "payment_received", "validation_ends_soon")
            await perform(database, cast.manager, payments.validate, request.id, "35.50")
            letters += await _written(cast, request.id, "payment_validated", "payment_returned", "payment_declined")
            async with database.reading(cast.world.tenant) as connection:
                issuer = await parties.issuer(connection)
            expected = {
                "payment_asked": (f"À régler au plus tard le : {tomorrow:%d/%m/%Y}", "To be paid by the end of:"),
                "payment_received": ("Montant réglé : 40,00 €", "Amount paid: €40.00"),
                "validation_ends_soon": ("pour valider le paiement", "to validate payment no."),
                "payment_validated": ("4,50 € vous reviennent", "€4.50 come back to you"),
                "payment_returned": ("40,00 € vous reviennent", "€40.00 come back to you"),
                "payment_declined": ("a refusé la demande", "has declined payment request"),
            }
            assert [letter.template for letter in letters] == list(expected)
            for letter in letters:
                for locale, words in zip(Locale, expected[letter.template], strict=True):
                    mail = Post(settings_for(servers, box)).compose(
                        issuer, _ACCENT, dataclasses.replace(letter, locale=locale), new_id(), 1
                    )
                    text, html = _text(mail).replace("\u00a0", " "), _html(mail)
                    assert words in f"{mail['Subject']}\n{text}".replace("\u00a0", " ")
                    assert f"http://127.0.0.1:8000{letter.link_path}\n" in text
                    assert f'<html lang="{locale}">' in html
                    assert html.count("http") == html.count(f'href="http://127.0.0.1:8000{letter.link_path}"') == 1
                    assert _ACCENT.light in html and _ACCENT.dark in html
                    assert "src=" not in html and "url(" not in html
                    assert "\n\n\n" not in text

    asyncio.run(scenario())


def test_an_immediate_request_is_to_be_paid_before_its_instant(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.world.freeze(datetime(2020, 6, 24, 9, 59, 35, tzinfo=UTC))
            request = await cast.ask("40", customer_identifier="client2@example.com")
            (letter,) = await _written(cast, request.id, "payment_asked")
            async with database.reading(cast.world.tenant) as connection:
                issuer = await parties.issuer(connection)
            text = _text(Post(servers.settings).compose(issuer, _ACCENT, letter, new_id(), 1))
            assert "À régler avant le : 24/06/2020 à 12:14:35" in text
            assert "au plus tard" not in text

    asyncio.run(scenario())


def test_names_with_line_breaks_braces_or_html_stay_text(servers: Servers) -> None:
    async def scenario() -> None:
        name = "Le <b>Club</b>\r\nBcc: voleur@example.com\u2028{0.__class__} {{ 7 * 7 }} & Cie"
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            # Such a name is refused when it is typed in; imports and older rows may hold one.
            await cast.world.as_owner("UPDATE merchants SET name = $2 WHERE tenant = $1", cast.world.tenant, name)
            await cast.world.as_owner("UPDATE issuers SET name = $2 WHERE tenant = $1", cast.world.tenant, name)
            await cast.ask("40", customer_identifier="client2@example.com")
            async with working(settings_for(servers, box)):
                await until(cast.is_told)
            (mail,) = box.mails
            shown = "Le <b>Club</b> Bcc: voleur@example.com {0.__class__} {{ 7 * 7 }} & Cie"
            assert mail["Subject"] == f"[TEST] {shown} vous demande 40,00\u00a0€"
            assert mail["Bcc"] is None
            assert shown in _text(mail).splitlines()
            assert "Le &lt;b&gt;Club&lt;/b&gt; Bcc: voleur@example.com {0.__class__} {{ 7 * 7 }} &amp; Cie" in _html(
                mail
            )
            assert "<b>Club" not in _html(mail)

    asyncio.run(scenario())


def test_an_address_that_is_two_headers_is_no_address(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            async with database.reading(cast.world.tenant) as connection:
                issuer = await parties.issuer(connection)
        letter = Letter("a@example.com\r\nBcc: b@example.com", Locale.FR, Text("", ""), "payment_declined")
        with pytest.raises(Rejected, match="no mail address"):
            Post(servers.settings).compose(issuer, _ACCENT, letter, new_id(), 1)

    asyncio.run(scenario())


def test_a_mail_arrives_though_redis_was_flushed_after_it_was_queued(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            await _relay_once(servers)
            with redis.Redis.from_url(servers.settings.redis_url) as client:
                assert client.keys("escarcelle:messages*")
                client.flushall()
            async with working(settings_for(servers, box)):
                await until(lambda: _handed_on(cast))
                await cast.let_leases_lapse()
                await until(cast.is_told)
            assert len(box.mails) == 1

    asyncio.run(scenario())


def test_a_worker_killed_after_sending_sends_the_same_mail_again(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            settings = settings_for(servers, box)
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            message_id = await cast.one_mail()
            async with process_working(settings) as first:
                box.on_mail = first.kill
                assert await asyncio.wait_for(first.wait(), 30) == -signal.SIGKILL
            box.on_mail = None
            assert box.identifiers == [f"<{message_id}.1@127.0.0.1>"]
            assert await cast.one_mail() == message_id
            async with process_working(settings) as second:
                await cast.let_leases_lapse()
                await until(cast.is_told)
                second.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(second.wait(), 30) == 0
            assert box.identifiers == [f"<{message_id}.1@127.0.0.1>"] * 2
            assert await cast.count("inbox") == 1

    asyncio.run(scenario())


def test_a_mail_waits_for_the_mail_server(servers: Servers) -> None:
    async def scenario() -> None:
        box = PostBox()
        async with box.open():
            pass
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            async with working(settings_for(servers, box)):
                await until(lambda: _failed(cast))
                (row,) = await cast.outbox()
                assert row["failures"] == 1
                assert row["last_error"].startswith("SMTPConnectError")
                pause = row["claim_at"] - datetime.now(UTC)
                assert timedelta(seconds=5) < pause <= timedelta(seconds=10)
                async with box.open():
                    await cast.let_leases_lapse()
                    await until(cast.is_told)
            assert len(box.mails) == 1
            assert await cast.count("dead_letters") == 0

    asyncio.run(scenario())


def test_a_recipient_refused_for_good_makes_a_dead_letter(servers: Servers) -> None:
    async def scenario() -> None:
        box = PostBox(refusal="550 5.1.1 <club@example.com>: no such person")
        async with box.open(), database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            (row,) = await cast.outbox()
            async with working(settings_for(servers, box)):
                await until(cast.is_told)
            (letter,) = await _dead_letters(cast)
            assert (letter["id"], letter["created_at"]) == (row["id"], row["created_at"])
            assert letter["payload"] == row["payload"]
            assert letter["reason"] == "550 5.1.1 recipient refused"
            assert letter["failures"] == 1
            assert await cast.count("inbox") == 0, "it can be sent again by hand"

    asyncio.run(scenario())


def test_a_recipient_refused_for_now_is_tried_again_and_given_up_in_the_end(servers: Servers) -> None:
    async def scenario() -> None:
        box = PostBox(refusal="450 4.2.1 <club@example.com>: try later")
        async with box.open(), database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            async with working(settings_for(servers, box)):
                await until(lambda: _failed(cast))
                await cast.world.as_owner(
                    "UPDATE outbox SET failures = $2 WHERE tenant = $1",
                    cast.world.tenant,
                    FAILURES_BEFORE_GIVING_UP - 1,
                )
                await cast.let_leases_lapse()
                await until(cast.is_told)
            (letter,) = await _dead_letters(cast)
            assert letter["failures"] == FAILURES_BEFORE_GIVING_UP
            assert letter["reason"].startswith("SMTPRecipientsRefused")
            assert "example.com" not in letter["reason"]

    asyncio.run(scenario())


def test_a_message_in_hand_or_done_is_not_begun_again(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            settings = settings_for(servers, box)
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            message_id = await cast.one_mail()
            workers = [Tasks(settings, open_broker(settings)) for _ in range(2)]
            tenant, copies = cast.world.tenant, [worker for worker in workers for _ in range(5)]
            await asyncio.gather(*(worker.deliver(tenant, str(message_id)) for worker in copies))
            await workers[0].deliver(tenant, str(message_id))
            for worker in workers:
                await worker.close()
            assert len(box.mails) == 1
            assert await cast.is_told()
            assert await cast.count("inbox") == 1

    asyncio.run(scenario())


def test_a_message_left_in_hand_is_begun_again_once_it_is_sent_again(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            message_id, system = await cast.one_mail(), cast.world.system
            assert await perform(database, system, messages.take_in_hand, message_id)
            assert not await perform(database, system, messages.take_in_hand, message_id)
            await _relay_once(servers)
            assert not await perform(database, system, messages.take_in_hand, message_id), "its time is not over"
            await cast.let_leases_lapse()
            await _relay_once(servers)
            assert await perform(database, system, messages.take_in_hand, message_id)
            await cast.world.as_owner("DELETE FROM outbox WHERE tenant = $1", cast.world.tenant)

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_the_mail_server_may_ask_who_is_there(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open(asks_to_sign_in=True) as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            url = f"smtp://moi%40example.com:p%40ss%2Fmot@127.0.0.1:{box.port}"
            async with working(settings_for(servers, box, smtp_url=url)):
                await until(cast.is_told)
            assert len(box.mails) == 1
            assert [(who.login, who.password) for who in box.signed_in] == [(b"moi@example.com", b"p@ss/mot")]

    asyncio.run(scenario())


async def _written(cast: Cast, request_id: UUID, *notices: str) -> list[Letter]:
    async with cast.world.database.reading(cast.world.tenant) as connection:
        written = [await writer(notice)(connection, cast.world.tenant, request_id) for notice in notices]
    return [letter for letters in written for letter in letters]


async def _relay_once(servers: Servers) -> None:
    """Hand on all that is due."""
    relay, stop = Relay(servers.settings), asyncio.Event()
    while await relay.hand_on():
        pass
    stop.set()
    await relay.run(stop)


async def _handed_on(cast: Cast) -> bool:
    return all(row["sends"] for row in await cast.outbox())


async def _failed(cast: Cast) -> bool:
    return any(row["failures"] for row in await cast.outbox())


async def _dead_letters(cast: Cast) -> list[Any]:
    return list(await cast.world.as_owner("SELECT * FROM dead_letters WHERE tenant = $1", cast.world.tenant))


def _text(mail: EmailMessage) -> str:
    return _body(mail, "plain")


def _html(mail: EmailMessage) -> str:
    return _body(mail, "html")


def _body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")
