"""Writing to the issuer: who it is, what it is about, and who answers (P5)."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from domain.support import LONGEST_MESSAGE, MOST
from tests.flows.cast import Cast
from tests.world import World, environment

pytestmark = pytest.mark.anyio

DONE = "... on Done { message }"


async def _reached_at(world: World, email: str | None, phone: str | None = None) -> None:
    await world.as_owner(
        "UPDATE issuers SET support_email = $2, support_phone = $3 WHERE tenant = $1", world.tenant, email, phone
    )


async def test_P5_a_merchant_writes_to_the_issuer_which_answers_with_reply(cast: Cast) -> None:
    support, signatory = f"aide@{cast.world.slug}.example", f"signataire@{cast.world.slug}.example"
    await _reached_at(cast.world, support)
    words = "Bonjour,\n\n50 bordereaux, {s'il vous plaît}.\n<b>Merci</b>\n"
    sent = await cast.signatory.do("contactSupport", DONE, subject="Bordereaux de remise", message=words)
    assert sent == {"__typename": "Done", "message": "Votre message est envoyé."}

    mail = await cast.running.mail(support, "Bordereaux de remise")
    assert mail["subject"] == "[TEST] Message de 708900 : Bordereaux de remise"
    for line in (
        "Identifiant : 708900",
        f"E-mail : {signatory}",
        "Commerçant : 708900 – Canoë Kayak Club Orléans",
        "Objet : Bordereaux de remise",
        "> 50 bordereaux, {s'il vous plaît}.",
        "> <b>Merci</b>",
        f"Répondez à ce mail : votre réponse ira à {signatory}.",
    ):
        assert line in mail["text"].splitlines(), line
    assert "Titulaire" not in mail["text"]
    copy = await cast.running.mail(signatory, "Bordereaux de remise")
    assert copy["subject"] == "[TEST] Votre message : Bordereaux de remise"
    assert "> <b>Merci</b>" in copy["text"].splitlines()

    lines = await cast.world.as_owner(
        "SELECT user_id, detail FROM journal WHERE tenant = $1 AND kind = 'smsg.create'", cast.world.tenant
    )
    assert [tuple(line) for line in lines] == [(cast.world.users["708900"].user_id, "{}")]


async def test_P5_a_customer_without_an_address_may_write_too(cast: Cast) -> None:
    support = f"aide@{cast.world.slug}.example"
    await _reached_at(cast.world, support)
    assert (await cast.ines.do("contactSupport", DONE, subject="Mon solde", message="?"))["__typename"] == "Done"
    mail = await cast.running.mail(support, "Mon solde")
    assert "Titulaire : ines" in mail["text"].splitlines()
    assert "Commerçant" not in mail["text"]
    assert "Cette personne n’a pas donné d’adresse e-mail" in mail["text"]


@pytest.mark.parametrize(
    ("given", "field", "fr", "en"),
    [
        ({"subject": " "}, "subject", "Ce champ est obligatoire.", "This field is required."),
        ({"message": " \n "}, "message", "Ce champ est obligatoire.", "This field is required."),
        ({"subject": "x" * 121}, "subject", "120 caractères au plus.", "At most 120 characters."),
        (
            {"message": "x" * (LONGEST_MESSAGE + 1)},
            "message",
            f"{LONGEST_MESSAGE} caractères au plus.",
            f"At most {LONGEST_MESSAGE} characters.",
        ),
        (
            {"subject": "Une\nBcc: x@example.com"},
            "subject",
            "Une seule ligne de texte est attendue.",
            "A single line of text is expected.",
        ),
        ({"message": "\x1b[2J"}, "message", "Un texte simple est attendu.", "Plain text is expected."),
    ],
)
async def test_P5_what_cannot_be_sent_is_refused_at_its_field(
    cast: Cast, given: dict[str, str], field: str, fr: str, en: str
) -> None:
    await _reached_at(cast.world, "aide@example.com")
    async with await cast.running.client(cast.world, "p001", language="en") as english, cast.world.unchanged():
        for client, words in ((cast.signatory, fr), (english, en)):
            refused = await client.do("contactSupport", DONE, **({"subject": "Objet", "message": "Texte"} | given))
            assert (refused["code"], refused["problems"]) == (
                "INVALID",
                [{"path": ["input", field], "message": words}],
            )


async def test_P5_an_operator_says_where_the_issuer_is_reached(cast: Cast) -> None:
    async def support(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "escarcelle", "issuer", "support", "--slug", cast.world.slug, *options]
        settings = environment(cast.world.servers.settings)
        return await asyncio.to_thread(
            subprocess.run, command, env=settings, capture_output=True, text=True, check=False
        )

    asked = "{ viewer { issuer { support { phone email fr: hours(locale: FR) en: hours(locale: EN) } } } }"

    async def shown() -> dict[str, Any]:
        found: dict[str, Any] = (await cast.till.ask(asked))["viewer"]["issuer"]["support"]
        return found

    given = ("--email", "Aide@Example.com", "--phone", "02 00", "--hours-fr", "le matin", "--hours-en", "mornings")
    assert (await support(*given)).returncode == 0
    everything = {"phone": "02 00", "email": "Aide@example.com", "fr": "le matin", "en": "mornings"}
    assert await shown() == everything
    async with cast.world.unchanged():
        for wrong in (("--email", "nowhere"), (), ("--phone", "02", "--slug", "nobody")):
            assert (await support(*wrong)).returncode == 1, wrong
    assert (await support("--email", "")).returncode == 0
    assert await shown() == everything | {"email": None}


async def test_P5_an_issuer_without_an_address_names_its_telephone(cast: Cast) -> None:
    for phone, words in (
        (None, "Agence du Temps Libre ne reçoit pas de messages ici."),
        ("02 00 00 00 00", "Agence du Temps Libre ne reçoit pas de messages ici : appelez le 02 00 00 00 00."),
    ):
        await _reached_at(cast.world, None, phone)
        async with cast.world.unchanged():
            refused = await cast.till.do("contactSupport", DONE, subject="Objet", message="Texte")
        assert (refused["code"], refused["message"]) == ("WRONG_STATE", words)


async def test_P5_a_message_sent_again_after_a_lost_answer_is_one(cast: Cast) -> None:
    support = f"aide@{cast.world.slug}.example"
    await _reached_at(cast.world, support)
    given = {"subject": "Bordereaux", "message": "Texte", "idempotencyKey": "une fois"}
    first = await cast.signatory.do("contactSupport", DONE, **given)
    async with cast.world.unchanged():
        assert await cast.signatory.do("contactSupport", DONE, **given) == first
        other = await cast.signatory.do("contactSupport", DONE, **given | {"message": "Un autre"})
        assert other["code"] == "IDEMPOTENCY_KEY_REUSED"
    await cast.till.do("contactSupport", DONE, **given)
    await cast.running.mail(support, "Identifiant : 708900")
    await cast.running.mail(support, "Identifiant : p001")
    assert len(await cast.running.mails(support)) == 2


async def test_P5_so_many_messages_an_hour_and_then_wait(cast: Cast) -> None:
    await _reached_at(cast.world, "aide@example.com")
    for n in range(MOST):
        sent = await cast.signatory.do("contactSupport", DONE, subject=f"Objet {n}", message="Texte")
        assert sent["__typename"] == "Done"
    async with cast.world.unchanged():
        refused = await cast.signatory.do("contactSupport", DONE, subject="Encore", message="Texte")
    assert refused["code"] == "RATE_LIMITED"
    assert 3_500 < refused["retryAfterSeconds"] <= 3_600
    assert (await cast.till.do("contactSupport", DONE, subject="Moi", message="Texte"))["__typename"] == "Done"
    await cast.world.as_owner(
        "UPDATE support_messages SET sent_at = sent_at - interval '1 hour' WHERE tenant = $1", cast.world.tenant
    )
    again = await cast.signatory.do("contactSupport", DONE, subject="Encore", message="Texte")
    assert again["__typename"] == "Done"
