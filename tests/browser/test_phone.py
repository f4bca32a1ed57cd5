"""The customer's phone: what it is asked to pay, by name or by QR code; what it pays, declines and has paid."""

import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image
from playwright.async_api import Browser, Page, WebSocket, async_playwright, expect

from domain.calendar import PARIS
from domain.db import Database
from domain.push import public_key
from tests.browser import FLAGS, LANGUAGES, Visitor, accessible, chromium, fits, until_served_offline, visiting
from tests.browser.answers import held, lost
from tests.browser.people import signed_in
from tests.flows.cast import Cast, assembled, token_of
from tests.tasks import until
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

WIDTH: Final = 390
HEIGHT: Final = 844
FORTY: Final = "40,00\u00a0€"
ENDPOINT: Final = "https://fcm.googleapis.com/fcm/send/dQw4w9WgXcQ:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"
P256DH: Final = "BDd3_hVL9fZi9Ybo2UUzA284WG5FZR30_95YeZJsiApwXKpNcF1rRPF3foIiBHXRdJI2Qhumhf6_LFTeZaNndIo"
SIXTEEN_LETTERS: Final = "c2l4dGVlbiBsZXR0ZXJzLg"

# No push service is reached from here: the browser's part is played, and all that the page does is real.
PLAYED_PUSH: Final = """([endpoint, p256dh, auth]) => {
    let subscription = null;
    let permission = "default";
    window.asked = [];
    Object.defineProperty(Notification, "permission", { get: () => permission });
    Notification.requestPermission = async () => (window.asked.push("permission"), (permission = window.answer));
    PushManager.prototype.getSubscription = async () => subscription;
    PushManager.prototype.subscribe = async (options) => {
        window.asked.push(options);
        return (subscription = {
            options: {}, toJSON: () => ({ endpoint, keys: { p256dh, auth } }),
            unsubscribe: async () => ((subscription = null), true),
        });
    };
    window.answer = "granted";
}"""


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the payment requests."""
    async with assembled(world, running) as everyone:
        yield everyone


@asynccontextmanager
async def phone_of(
    browser: Browser, cast: Cast, login: str, path: str = "/offers", *, language: str = "fr"
) -> AsyncIterator[tuple[Visitor, Page]]:
    """A customer's phone, on that screen."""
    async with visiting(browser, cast.running.url, language=language, width=WIDTH, height=HEIGHT) as someone:
        yield someone, await signed_in(someone, cast.world.slug, login, path)


@asynccontextmanager
async def with_camera(*flags: str) -> AsyncIterator[Browser]:
    """A Chromium with a camera of its own."""
    async with async_playwright() as playwright:
        args = [*FLAGS, "--use-fake-device-for-media-stream", *flags]
        started = await playwright.chromium.launch(executable_path=chromium(), args=args)
        yield started
        await started.close()


def title(page: Page) -> Any:
    """The screen's name."""
    return page.get_by_role("heading", level=1)


def question(page: Page) -> Any:
    """The dialog that is open."""
    return page.get_by_role("dialog")


# ── asked by name ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P21_P22_P23_A_asked_by_name_a_part_is_paid_and_the_till_sees_it(
    browser: Browser, visitor: Visitor, cast: Cast
) -> None:
    request = await cast.ask(customerIdentifier="ines", label="Location de canoë")
    till = await signed_in(visitor, cast.world.slug, "p001", "/payments")
    row = till.get_by_role("row").filter(has_text=request["basketNumber"])
    await expect(row).to_contain_text("En attente de paiement client")
    async with phone_of(browser, cast, "ines") as (_, page):
        await expect(title(page)).to_have_text("Mes paiements")
        await expect(page.locator(".balance")).to_contain_text("100,00\u00a0€")
        card = page.get_by_role("link", name="Location de canoë")
        await expect(card).to_contain_text(FORTY)
        await expect(card).to_contain_text("encore 14\u00a0min")
        await card.click()
        amount = page.get_by_label("Montant à payer")
        await expect(amount).to_be_focused()
        await expect(amount).to_have_value("40,00")
        await amount.fill("30")
        await page.keyboard.press("Enter")
        await expect(question(page)).to_contain_text("30,00\u00a0€ quittent votre solde pour Canoë Kayak Club Orléans")
        await expect(question(page)).to_contain_text("Il restera 10,00\u00a0€ à régler autrement")
        await expect(page.get_by_role("button", name="Ne pas payer")).to_be_focused()
        assert await cast.world.wallet("ines") == 100_00, "nothing is paid before the answer"
        await question(page).get_by_role("button", name="Payer 30,00\u00a0€").click()
        await expect(title(page)).to_have_text("Paiement effectué")
        said = page.locator(".told")
        await expect(said).to_be_focused()
        await expect(said).to_contain_text("Vous avez payé 30,00\u00a0€ à Canoë Kayak Club Orléans.")
        await expect(said).to_contain_text("Il reste 10,00\u00a0€ à régler par le moyen de votre choix.")
        await expect(page.locator("dl")).to_contain_text("Mon solde 70,00\u00a0€")
        await expect(row).to_contain_text("Validé")
        await expect(row).to_contain_text("30,00\u00a0€")
        await page.get_by_role("link", name="Fermer").click()
        receipt = page.get_by_role("link", name="Location de canoë")
        await expect(receipt).to_contain_text("30,00\u00a0€")
        await expect(receipt).to_contain_text("Validé")
        await expect(page.locator(".balance")).to_contain_text("70,00\u00a0€")
        await expect(page.get_by_text("Personne ne vous demande de paiement.")).to_be_visible()
    assert await cast.world.wallet("ines") == 70_00


async def test_P22_a_new_request_appears_on_the_list_that_is_looked_at(browser: Browser, cast: Cast) -> None:
    async with phone_of(browser, cast, "ines") as (_, page):
        await expect(page.get_by_text("Personne ne vous demande de paiement.")).to_be_visible()
        request = await cast.ask(customerIdentifier="ines", label="Gilet")
        await expect(page.get_by_role("link", name="Gilet")).to_be_visible()
        await cast.till.do("cancelPaymentRequest", "... on PaymentRequest { status }", id=request["id"])
        await expect(page.get_by_role("link", name="Gilet")).to_contain_text("Annulé")


async def test_P23_B_is_paid_whole_or_not_at_all(browser: Browser, cast: Cast) -> None:
    day = (datetime.now(PARIS).date() + timedelta(days=2)).isoformat()
    await cast.ask(customerIdentifier="ines@example.com", paymentDeadline=day, label="Stage")
    async with phone_of(browser, cast, "ines") as (_, page):
        await page.get_by_role("link", name="Stage").click()
        await expect(page.get_by_text("Cette demande se paie en une fois, en entier.")).to_be_visible()
        await expect(page.locator("dl")).to_contain_text(f"{day[8:]}/{day[5:7]}/{day[:4]}")
        await expect(page.get_by_label("Montant à payer")).to_have_count(0)
        await page.get_by_role("button", name=f"Payer {FORTY}").click()
        await question(page).get_by_role("button", name=f"Payer {FORTY}").click()
        await expect(title(page)).to_have_text("Paiement effectué")
        await expect(page.get_by_text("à régler par le moyen")).to_have_count(0)
    assert await cast.world.wallet("ines") == 60_00


async def test_P26_P27_C_what_the_merchant_gives_back_is_said_at_once(browser: Browser, cast: Cast) -> None:
    request = await cast.ask(customerIdentifier="ines", validationDays=2, label="Réservation")
    async with phone_of(browser, cast, "ines") as (_, page):
        await page.get_by_role("link", name="Réservation").click()
        await page.get_by_label("Montant à payer").press("Enter")
        await question(page).get_by_role("button", name=f"Payer {FORTY}").click()
        await expect(page.locator(".told")).to_contain_text("Le commerçant doit encore valider")
        assert await cast.world.wallet("ines") == 60_00
        await cast.till.do("cancelPaymentRequest", "... on PaymentRequest { status }", id=request["id"])
        await expect(page.locator(".told")).to_contain_text(f"Les {FORTY} payés vous sont rendus.")
    assert await cast.world.wallet("ines") == 100_00


# ── the QR code ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P20_the_camera_reads_the_code_and_the_amount_comes_from_the_server(cast: Cast, tmp_path: Path) -> None:
    request = await cast.ask(label="Au guichet")
    film = tmp_path / "counter.mjpeg"
    film.write_bytes(_filmed(request["qrCode"]["pngBase64"]))
    film_flag = f"--use-file-for-fake-video-capture={film}"
    async with (
        with_camera("--use-fake-ui-for-media-stream", film_flag) as browser,
        phone_of(browser, cast, "ines") as (someone, page),
    ):
        await page.get_by_role("link", name="Scanner un QR code").click()
        await page.wait_for_url(f"**/offers/{token_of(request)}")
        await expect(page.locator("main .total")).to_have_text(FORTY)
        await expect(page.locator("dl")).to_contain_text("Au guichet")
        await page.go_back()
        await expect(title(page)).to_have_text("Mes paiements")
        assert not someone.wrong.found(), "the page's policy holds for the reader too"


async def test_a_refused_camera_is_explained_and_the_link_may_be_pasted(cast: Cast) -> None:
    request = await cast.ask()
    async with with_camera() as browser, phone_of(browser, cast, "ines", "/offers/scan") as (_, page):
        await expect(page.get_by_text("L’appareil photo est refusé à ce site.")).to_be_visible()
        link = page.get_by_label("Ou collez le lien de paiement")
        await link.fill("https://example.com/autre-chose")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Ce n’est pas un lien de paiement")).to_be_visible()
        await expect(link).to_be_focused()
        await expect(link).to_have_attribute("aria-invalid", "true")
        await link.fill(f" {request['qrCode']['url']} ")
        await page.keyboard.press("Enter")
        await expect(page.locator("main .total")).to_have_text(FORTY)
        await page.keyboard.press("Escape")
        await expect(title(page)).to_have_text("Mes paiements")


async def test_without_a_camera_the_screen_says_so(browser: Browser, cast: Cast) -> None:
    async with phone_of(browser, cast, "ines", "/offers/scan") as (_, page):
        await expect(page.get_by_text("Aucun appareil photo ne répond ici.")).to_be_visible()
        await page.get_by_role("link", name="Mes paiements", exact=False).first.click()
        await expect(title(page)).to_have_text("Mes paiements")


async def test_P20_a_link_leads_there_after_sign_in_and_a_second_time_says_paid(browser: Browser, cast: Cast) -> None:
    token = token_of(await cast.ask())
    async with visiting(browser, cast.running.url, width=WIDTH, height=HEIGHT) as someone:
        page = await signed_in(someone, cast.world.slug, "ines", f"/offers/{token}")
        other = await someone.page(f"/offers/{token}")
        await expect(other.locator("main .total")).to_have_text(FORTY)
        await page.get_by_role("button", name=f"Payer {FORTY}").click()
        await question(page).get_by_role("button", name=f"Payer {FORTY}").click()
        await expect(title(page)).to_have_text("Paiement effectué")
        await expect(title(other)).to_have_text("Demande déjà payée")
        sockets: list[WebSocket] = []

        def opened(socket: WebSocket) -> None:
            sockets.append(socket)

        page.on("websocket", opened)
        await page.reload()
        await expect(title(page)).to_have_text("Demande déjà payée")
        await until(lambda: sockets and all(socket.is_closed() for socket in sockets))
        await expect(page.get_by_text("Connexion perdue")).to_have_count(0)
        await expect(page.locator(".told")).to_contain_text(f"Déjà payé : {FORTY}.")
        await expect(page.get_by_role("button", name="Payer")).to_have_count(0)
    assert await cast.world.wallet("ines") == 60_00


async def test_P20_an_altered_token_leads_nowhere(browser: Browser, cast: Cast) -> None:
    token = token_of(await cast.ask())
    altered = token[:-2] + ("AA" if token[-2:] != "AA" else "BA")
    async with phone_of(browser, cast, "ines", f"/offers/{altered}") as (_, page):
        await expect(title(page)).to_have_text("Aucune demande à cette adresse")
        await accessible(page)
        await page.get_by_role("link", name="Scanner un QR code").click()
        await expect(title(page)).to_have_text("Scanner un QR code")


async def test_P25_after_the_limit_nobody_pays(browser: Browser, cast: Cast) -> None:
    await cast.world.freeze(datetime(2026, 11, 22, 12, 0, tzinfo=PARIS))
    request = await cast.ask()
    await cast.world.nothing_falls_due()
    async with phone_of(browser, cast, "ines", f"/offers/{token_of(request)}") as (_, page):
        pay = page.get_by_role("button", name=f"Payer {FORTY}")
        await pay.click()
        await cast.world.freeze(datetime(2026, 11, 22, 12, 15, tzinfo=PARIS))
        await question(page).get_by_role("button", name=f"Payer {FORTY}").click()
        await expect(title(page)).to_have_text("Demande close")
        await expect(page.locator(".told")).to_contain_text("Le délai est passé")
        await expect(pay).to_have_count(0)
    assert await cast.world.wallet("ines") == 100_00


async def test_P25_the_screen_closes_when_the_time_is_over(browser: Browser, cast: Cast) -> None:
    await cast.world.freeze(datetime(2026, 11, 22, 12, 0, tzinfo=PARIS))
    request = await cast.ask()
    async with phone_of(browser, cast, "ines") as (_, page):
        await page.clock.install()
        await page.goto(f"/offers/{token_of(request)}")
        await expect(page.locator("time")).to_contain_text("encore 1")
        await cast.world.freeze(datetime(2026, 11, 22, 12, 15, tzinfo=PARIS))
        await page.clock.fast_forward("15:01")
        await expect(title(page)).to_have_text("Demande close")
        await expect(page.locator(".told")).to_contain_text("Le délai est passé")


async def test_P22_a_request_for_somebody_else_cannot_be_paid(browser: Browser, cast: Cast) -> None:
    await cast.ask(customerIdentifier="eric", label="Pour Éric")
    offers = await cast.eric.ask("{ myPaymentOffers { nodes { token } } }")
    token = offers["myPaymentOffers"]["nodes"][0]["token"]
    async with phone_of(browser, cast, "ines", f"/offers/{token}") as (_, page):
        await expect(page.locator(".told")).to_contain_text("Cette demande s’adresse à quelqu’un d’autre")
        await expect(page.get_by_role("button", name="Payer")).to_have_count(0)


# ── wrong turns ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P31_declining_is_asked_once_more_and_told_to_the_till(
    browser: Browser, visitor: Visitor, cast: Cast
) -> None:
    request = await cast.ask()
    till = await signed_in(visitor, cast.world.slug, "p001", "/payments")
    row = till.get_by_role("row").filter(has_text=request["basketNumber"])
    await expect(row).to_contain_text("En attente de paiement client")
    async with phone_of(browser, cast, "ines", f"/offers/{token_of(request)}") as (_, page):
        decline = page.get_by_role("button", name="Refuser", exact=True)
        await decline.click()
        await expect(page.get_by_role("button", name="Ne pas refuser")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(question(page)).to_have_count(0)
        await expect(decline).to_be_focused()
        assert (await cast.read(request))["status"] == "AWAITING_PAYMENT"
        await decline.click()
        await question(page).get_by_role("button", name="Refuser la demande").click()
        await expect(title(page)).to_have_text("Demande refusée")
        await expect(page.locator(".told")).to_contain_text("Canoë Kayak Club Orléans en est informé")
        await expect(row).to_contain_text("Annulé")
        await page.reload()
        await expect(page.locator(".told")).to_contain_text("Cette demande est annulée")
        await expect(page.get_by_role("button", name="Payer")).to_have_count(0)


async def test_what_is_wrong_with_an_amount_is_said_at_its_field(browser: Browser, cast: Cast) -> None:
    token = token_of(await cast.ask())
    async with phone_of(browser, cast, "eric", f"/offers/{token}") as (_, page):
        amount = page.get_by_label("Montant à payer")
        await expect(page.locator("dl")).to_contain_text("Mon solde")
        for typed, said in (
            ("beaucoup", "Écrivez un montant, par exemple 25,50."),
            ("2 0", "Écrivez un montant, par exemple 25,50."),
            ("0", "Le montant doit être supérieur à zéro."),
            ("40", "Votre solde est de 25,00\u00a0€."),
            ("40,01", "40,00\u00a0€"),
        ):
            await amount.fill(typed)
            await page.keyboard.press("Enter")
            await expect(page.locator(".field .problem")).to_contain_text(said)
            await expect(question(page)).to_have_count(0)
            await expect(amount).to_be_focused()
            await expect(amount).to_have_value(typed)
            await expect(amount).to_have_attribute("aria-invalid", "true")
        await accessible(page)
        await amount.fill("25")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Escape")
        await expect(amount).to_have_value("25")
        await cast.pay(await cast.ask("20,00"), by=cast.eric)
        await page.get_by_role("button", name="Payer 25,00\u00a0€").click()
        await question(page).locator("button.primary").click()
        await expect(page.locator(".field .problem")).to_contain_text("Votre solde est de 5,00\u00a0€.")
        await expect(amount).to_be_focused()
        await amount.fill("5")
        await page.keyboard.press("Enter")
        await question(page).locator("button.primary").click()
        await expect(title(page)).to_have_text("Paiement effectué")
    assert await cast.world.wallet("eric") == 0


async def test_a_payment_whose_answer_is_lost_is_made_once(browser: Browser, cast: Cast) -> None:
    token = token_of(await cast.ask())
    async with phone_of(browser, cast, "ines", f"/offers/{token}") as (someone, page):
        keys: list[str] = []

        async def lose(route: Any) -> None:
            sent = route.request.post_data_json
            if "payPaymentRequest" not in sent["query"]:
                await route.continue_()
                return
            keys.append(sent["variables"]["key"])
            if len(keys) > 1:
                await route.continue_()
                return
            await route.abort()

        await page.route("**/graphql", lose)
        pay = page.get_by_role("button", name=f"Payer {FORTY}")
        await pay.click()
        await question(page).locator("button.primary").click()
        await expect(page.get_by_text("Rien n’a été perdu : réessayez.")).to_be_visible()
        someone.wrong.expected("ERR_FAILED")
        await pay.click()
        await question(page).locator("button.primary").click()
        await expect(title(page)).to_have_text("Paiement effectué")
        assert len(keys) == 2
        assert keys[0] == keys[1], "the same payment has the same key"
    assert await cast.world.wallet("ines") == 60_00


async def test_a_payment_that_was_made_and_whose_answer_is_lost_is_told_as_made(browser: Browser, cast: Cast) -> None:
    token = token_of(await cast.ask())
    async with phone_of(browser, cast, "ines", f"/offers/{token}") as (someone, page):
        await lost(page, "mutation pay")
        await page.get_by_role("button", name=f"Payer {FORTY}").click()
        await question(page).locator("button.primary").click()
        await expect(title(page)).to_have_text("Paiement effectué")
        await expect(page.locator(".told")).to_contain_text(f"Vous avez payé {FORTY} à Canoë Kayak Club Orléans.")
        await expect(page.locator(".told")).to_be_focused()
        someone.wrong.expected("ERR_FAILED")


async def test_P21_a_late_answer_does_not_offer_what_is_paid(browser: Browser, cast: Cast) -> None:
    request = await cast.ask()
    async with phone_of(browser, cast, "ines") as (_, page):
        late = await held(page, "query offer")
        await page.goto(f"/offers/{token_of(request)}")
        await late.given()
        await cast.pay(request)
        await expect(title(page)).to_have_text("Demande déjà payée")
        await late.arrive()
        await expect(title(page)).to_have_text("Demande déjà payée")
        await expect(page.locator("dl")).to_contain_text("Mon solde 60,00\u00a0€")
        await expect(page.get_by_role("button", name="Payer")).to_have_count(0)


async def test_P24_what_is_on_its_way_can_no_longer_be_left_undone(browser: Browser, cast: Cast) -> None:
    request = await cast.ask()
    async with phone_of(browser, cast, "ines", f"/offers/{token_of(request)}") as (_, page):
        late = await held(page, "mutation pay")
        await page.get_by_role("button", name=f"Payer {FORTY}").click()
        await question(page).locator("button.primary").click()
        await late.given()
        await expect(question(page)).to_contain_text("C’est parti : attendez la réponse.")
        for _ in range(2):
            await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Ne pas payer").click(force=True)
        await expect(question(page)).to_be_visible()
        await late.arrive()
        await expect(title(page)).to_have_text("Paiement effectué")
        await expect(question(page)).to_have_count(0)
        await expect(page.locator(".told")).to_be_focused()


async def test_P24_a_question_that_somebody_else_has_settled_gives_the_focus_to_the_screen(
    browser: Browser, cast: Cast
) -> None:
    request = await cast.ask()
    async with phone_of(browser, cast, "ines", f"/offers/{token_of(request)}") as (_, page):
        await page.get_by_role("button", name=f"Payer {FORTY}").click()
        await expect(page.get_by_role("button", name="Ne pas payer")).to_be_focused()
        await cast.pay(request, "20,00", by=cast.eric)
        await expect(title(page)).to_have_text("Demande déjà payée")
        await expect(title(page)).to_be_focused()


async def test_what_somebody_else_has_paid_is_told_without_its_amount(browser: Browser, cast: Cast) -> None:
    request = await cast.ask(validationDays=2, customerIdentifier="eric")
    (offer,) = (await cast.eric.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"]
    await cast.pay(offer["token"], "13,00", by=cast.eric)
    async with phone_of(browser, cast, "ines", f"/offers/{offer['token']}") as (_, page):
        await expect(title(page)).to_have_text("Demande déjà payée")
        said = page.locator(".told")
        await expect(said).to_have_text("Cette demande est déjà payée.")
        await expect(page.locator("main")).not_to_contain_text("13,00")
        await cast.till.do("cancelPaymentRequest", "... on PaymentRequest { status }", id=request["id"])
        await page.reload()
        await expect(said).to_have_text("Cette demande est annulée : elle ne peut plus être payée.")


# ── how it looks ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_screen_is_accessible_and_fits(browser: Browser, cast: Cast, language: str) -> None:
    long = "Location de deux canoës biplaces avec gilets, pagaies et bidons étanches pour la journée entière"
    await cast.ask(customerIdentifier="ines", label=long)
    await cast.pay(await cast.ask("25,00"), "20,00")
    names = {
        "fr": ("Mes paiements", "Demande de paiement", "Payer 40,00\u00a0€", "Paiement effectué", "Scanner un QR code"),
        "en": ("My payments", "Payment request", "Pay €40.00", "Payment made", "Scan a QR code"),
    }[language]
    async with phone_of(browser, cast, "ines", language=language) as (_, page):
        await expect(title(page)).to_have_text(names[0])
        await expect(page.locator(".cards li")).to_have_count(2)
        await expect(page).to_have_title(f"{names[0]} – Escarcelle")
        await accessible(page)
        await fits(page)
        await page.locator(".cards a").first.click()
        await expect(title(page)).to_have_text(names[1])
        await accessible(page)
        await fits(page)
        await page.get_by_role("button", name=names[2]).click()
        await accessible(page)
        await fits(page)
        await question(page).locator("button.primary").click()
        await expect(title(page)).to_have_text(names[3])
        await accessible(page)
        await fits(page)
        await page.goto("/offers/scan")
        await expect(title(page)).to_have_text(names[4])
        await expect(page.locator(".reason")).to_be_visible()
        await accessible(page)
        await fits(page)


async def test_the_language_changes_without_losing_what_is_typed(browser: Browser, cast: Cast) -> None:
    token = token_of(await cast.ask())
    async with phone_of(browser, cast, "ines", f"/offers/{token}") as (_, page):
        await page.get_by_label("Montant à payer").fill("31,50")
        await page.get_by_role("button", name="English").click()
        await expect(title(page)).to_have_text("Payment request")
        await expect(page.get_by_label("Amount to pay")).to_have_value("31,50")
        await page.get_by_role("button", name="Pay €31.50").click()
        await expect(question(page)).to_contain_text("€8.50 will be left to be paid by other means.")


# ── notifications ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def real(servers: Servers, database: Database, running: Running) -> AsyncIterator[Cast]:
    """The cast at an issuer that is no sandbox."""
    async with assembled(await World.make(servers, database, sandbox=False), running) as everyone:
        yield everyone


async def test_P22_a_tap_registers_the_device_and_another_one_forgets_it(browser: Browser, real: Cast) -> None:
    async with visiting(browser, real.running.url, width=WIDTH, height=HEIGHT) as someone:
        played = json.dumps([ENDPOINT, P256DH, SIXTEEN_LETTERS])
        await someone.context.add_init_script(f"({PLAYED_PUSH})({played})")
        page = await signed_in(someone, real.world.slug, "ines", "/offers")
        on = page.get_by_role("button", name="Activer les notifications")
        await expect(on).to_be_visible()
        assert await page.evaluate("window.asked") == [], "nothing is asked before a tap"
        await accessible(page)
        await on.click()
        await expect(page.get_by_text("Activées : cet appareil vous prévient")).to_be_visible()
        key = public_key(real.running.settings)
        options = {"userVisibleOnly": True, "applicationServerKey": key}
        assert await page.evaluate("window.asked") == ["permission", options]
        assert await _devices(real) == [ENDPOINT]
        await page.get_by_role("button", name="Désactiver sur cet appareil").click()
        await expect(on).to_be_visible()


async def test_P22_refused_notifications_are_explained(browser: Browser, real: Cast) -> None:
    async with visiting(browser, real.running.url, width=WIDTH, height=HEIGHT) as someone:
        played = json.dumps([ENDPOINT, P256DH, SIXTEEN_LETTERS])
        await someone.context.add_init_script(f"({PLAYED_PUSH})({played}); window.answer = 'denied'")
        page = await signed_in(someone, real.world.slug, "ines", "/offers")
        await page.get_by_role("button", name="Activer les notifications").click()
        await expect(page.get_by_text("Les notifications de ce site sont bloquées")).to_be_visible()
        assert await _devices(real) == []


async def test_P22_a_browser_that_shows_none_says_so(browser: Browser, real: Cast) -> None:
    async with visiting(browser, real.running.url, width=WIDTH, height=HEIGHT) as someone:
        await someone.context.add_init_script("delete window.PushManager")
        page = await signed_in(someone, real.world.slug, "ines", "/offers")
        await expect(page.get_by_text("Ce navigateur n’affiche pas de notifications")).to_be_visible()


async def test_P22_a_push_is_shown_and_its_tap_opens_the_request(browser: Browser, cast: Cast) -> None:
    token = token_of(await cast.ask())
    async with phone_of(browser, cast, "ines") as (someone, page):
        await expect(page.get_by_text("Ceci est un essai")).to_be_visible()
        await someone.context.grant_permissions(["notifications"])
        await until_served_offline(page)
        await page.reload()
        (worker,) = someone.context.service_workers
        # What the task process encrypts for the device; no push service stands between them here.
        content = {"title": "On vous demande 40,00 €", "body": "Canoë", "url": f"https://example.org/p/{token}"}
        await worker.evaluate(
            "(text) => new Promise((done) => {"
            " const event = new PushEvent('push', { data: text });"
            " event.waitUntil = (work) => work.then(done); self.dispatchEvent(event); })",
            json.dumps(content),
        )
        shown = await page.evaluate(
            "navigator.serviceWorker.ready.then((one) => one.getNotifications())"
            ".then((all) => all.map(({ title, body, data }) => [title, body, data]))"
        )
        assert shown == [["On vous demande 40,00 €", "Canoë", f"/offers/{token}"]]
        opened = await worker.evaluate(
            "async () => {"
            " const opened = []; self.clients.openWindow = async (path) => { opened.push(path); };"
            " const [notification] = await self.registration.getNotifications();"
            " await new Promise((done) => {"
            "   const event = new NotificationEvent('notificationclick', { notification });"
            "   event.waitUntil = (work) => work.then(done); self.dispatchEvent(event); });"
            " return [opened, (await self.registration.getNotifications()).length]; }"
        )
        assert opened == [[f"/offers/{token}"], 0]


async def _devices(cast: Cast) -> list[str]:
    rows = await cast.world.as_owner("SELECT endpoint FROM push_subscriptions WHERE tenant = $1", cast.world.tenant)
    return [row["endpoint"] for row in rows]


def _filmed(png_base64: str) -> bytes:
    """What a camera in front of the code sees: one JPEG picture, which Chromium shows again and again."""
    code = Image.open(io.BytesIO(base64.b64decode(png_base64))).convert("RGB").resize((360, 360))
    picture = Image.new("RGB", (640, 480), "white")
    picture.paste(code, (140, 60))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=95)
    return content.getvalue()
