"""The till: the manual of the payment requests, played in Chromium by who collects, while customers pay elsewhere."""

import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import openpyxl
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from domain.access import Right, Role
from domain.calendar import PARIS
from domain.parties import Address
from domain.reimbursements import ReimbursedFlow
from escarcelle import database as escarcelle_database
from escarcelle.embedded import free_port
from tests.browser import LANGUAGES, Visitor, accessible, fits, query, visiting
from tests.browser.answers import heeded, held, lost
from tests.browser.people import signed_in
from tests.flows.cast import OFFER, Cast, assembled, token_of
from tests.flows.files import JOB, finished
from tests.world import PASSWORD, Running, World, environment, wait_until_ready

pytestmark = pytest.mark.anyio

TILL = 1024
"""How wide a till is."""
NEW = "un tout nouveau mot de passe"
AGENCY_IBAN, CANOE_IBAN = "FR1420041010050500013M02606", "FR76 3000 6000 0112 3456 7890 189"


_COUNTS_LOCKS = """
    window.locks = 0;
    // An empty tab has none.
    if (navigator.wakeLock) navigator.wakeLock.request = async () => {
        window.locks += 1;
        return { release: async () => { window.locks -= 1; } };
    };
"""


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the payment requests."""
    async with assembled(world, running) as everyone:
        yield everyone


@pytest.fixture
async def visitor(browser: Browser, running: Running) -> AsyncIterator[Visitor]:
    """Someone who reads French, at a till."""
    async with visiting(browser, running.url, width=TILL) as someone:
        yield someone


class Server:
    """An API of the test's own, whose links lead to itself, and which may stop and start again where it was."""

    def __init__(self, running: Running) -> None:
        self._port = free_port()
        self._settings = running.settings
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """It answers."""
        command = [sys.executable, "-m", "escarcelle", "serve", "--port", str(self._port), "--processes", "1"]
        settings = self._settings.model_copy(update={"public_url": self.url})
        self._process = subprocess.Popen(command, env=environment(settings), stdout=subprocess.DEVNULL)
        wait_until_ready(self.url)

    def stop(self) -> None:
        """It is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=15)
        self._process = None


@pytest.fixture(scope="module")
def server(running: Running) -> Iterator[Server]:
    """One that stands."""
    server = Server(running)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def heading(page: Page) -> Locator:
    """The name of the screen."""
    return page.get_by_role("heading", level=1)


def state(page: Page) -> Locator:
    """What a screen says of where its request stands."""
    return page.locator("main .state")


async def shown(cast: Cast, page: Page) -> dict[str, Any]:
    """The request whose screen that is, as the API has it."""
    await page.wait_for_url(re.compile(r"/payments/(?!new)[^?]+"))
    return await cast.read({"id": page.url.split("?")[0].rsplit("/", 1)[-1]}, cast.signatory)


async def _requests(cast: Cast) -> dict[str, Any]:
    found: dict[str, Any] = (await cast.till.ask("{ paymentRequests { totalCount nodes { id } } }"))["paymentRequests"]
    return found


async def tabbed_to(page: Page, name: str) -> None:
    """With the Tab key alone, onto what is called so."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"the Tab key does not lead to {name!r}")


async def at_the_amount(page: Page) -> Locator:
    """From the first step of a request on; nothing is changed in it."""
    await expect(page.get_by_role("radio", name="Immédiatement")).to_be_focused()
    await page.keyboard.press("Enter")
    amount = page.get_by_label("Montant (20,00 € minimum)")
    await expect(amount).to_be_focused()
    return amount


# ── the four flows ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P1_P3_P21_with_the_keyboard_alone_from_sign_in_to_a_paid_request(visitor: Visitor, cast: Cast) -> None:
    page = await visitor.page(f"/?issuer={cast.world.slug}")
    await expect(page.locator("[name=login]")).to_be_focused()
    await page.keyboard.type("p001")
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(heading(page)).to_have_text("Opérations")
    assert page.url.endswith("/payments"), "staff of a point of sale is there at once (P3)"
    await tabbed_to(page, "Nouvelle demande")
    await page.keyboard.press("Enter")
    await at_the_amount(page)
    await page.keyboard.type("40")
    await page.keyboard.press("Enter")
    request = await shown(cast, page)
    assert (request["flow"], request["collection"], request["pointOfSale"]) == (
        "IMMEDIATE",
        "QR_CODE",
        {"code": "P001"},
    )
    assert request["amountRequested"]["amount"] == "40.00"
    code = page.get_by_role("img", name="QR code à scanner par le client")
    await expect(code).to_be_visible()
    assert await code.evaluate("(image) => image.naturalWidth > 0 && image.getBoundingClientRect().width > 250")
    await expect(page.locator(".sheet .total")).to_have_text("40,00 €")
    await expect(page.locator("time")).to_have_text(re.compile(r"^encore 14\smin \d+\ss"))
    assert (await cast.pay(request))["status"] == "VALIDATED"
    await expect(state(page)).to_contain_text("bien été réalisé pour un montant de 40,00 €")
    await expect(state(page)).to_contain_text("Validé")
    await expect(code).to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("row").nth(1)).to_contain_text(request["basketNumber"])


async def test_P19_P20_P23_another_way_of_asking_and_a_part_paid(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments/new")
    await (await at_the_amount(page)).fill("40,00")
    await page.keyboard.press("Enter")
    before = await shown(cast, page)
    link = before["qrCode"]["url"]
    await expect(page.locator(".sheet")).to_contain_text(link)
    await visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copier le lien").click()
    await expect(page.get_by_text("Copié.")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == link
    await page.evaluate("window.print = () => { window.printed = true; }")
    await page.get_by_role("button", name="Imprimer").click()
    assert await page.evaluate("window.printed")
    await page.emulate_media(media="print", color_scheme="dark")
    await expect(page.locator(".sheet")).to_contain_text(before["basketNumber"])
    await expect(page.get_by_text(link)).to_be_visible()
    for unprinted in (page.locator("nav"), heading(page), page.get_by_text("Historique"), page.locator("main button")):
        assert [await each.is_visible() for each in await unprinted.all()].count(True) == 0
    await page.emulate_media(media="screen")
    await page.get_by_role("button", name="Changer de mode d’encaissement").click()
    identifier = page.get_by_label("Identifiant ou e-mail du client")
    await expect(identifier).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(identifier).to_have_count(0)
    await page.get_by_role("button", name="Changer de mode d’encaissement").click()
    await expect(identifier).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("À remplir.")).to_be_visible()
    await page.keyboard.type("ines")
    await page.keyboard.press("Enter")
    await expect(state(page)).to_contain_text("en attente de validation par votre client (ines)")
    await expect(page.locator(".sheet")).to_have_count(0)
    assert (await cast.pay(before))["code"] == "NOT_FOUND", "the old QR code is dead"
    (offer,) = (await cast.ines.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"]
    await cast.pay(offer["token"], "30,00")
    await expect(state(page)).to_contain_text("pour un montant de 30,00 €")
    await expect(state(page)).to_contain_text("Il reste 10,00 € à régler par le moyen de votre choix.")
    assert (await shown(cast, page))["basketNumber"] == before["basketNumber"]
    await expect(page.locator(".timeline strong")).to_have_text(
        ["Payé par le client", "Mode d’encaissement changé", "Demande créée"]
    )


async def test_P3_P11_P12_P13_a_signatory_asks_for_a_deferred_payment_with_a_window(
    visitor: Visitor, cast: Cast
) -> None:
    await cast.world.freeze(datetime(2020, 6, 24, 11, 6, tzinfo=PARIS).astimezone(UTC))
    page = await signed_in(visitor, cast.world.slug, "708900")
    await expect(heading(page)).to_have_text("Accueil")
    await page.get_by_role("link", name=re.compile("^Encaissement Demander")).click()
    await page.get_by_role("link", name="Nouvelle demande").first.click()
    await expect(heading(page)).to_have_text("Choix du point d’accueil")
    await page.get_by_role("link", name="P002 – Canoë Kayak Club – Île Charlemagne").click()
    await page.get_by_role("radio", name="En paiement différé").check()
    days, window = page.get_by_label("Limite de paiement, en jours"), page.get_by_role("radio", name="Oui")
    for typed in ("0", "-1", "366", "dix", ""):
        await days.fill(typed)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Un nombre de jours, de 1 à 365.")).to_be_visible()
        await expect(days).to_be_focused()
    await days.fill("10")
    await expect(page.get_by_text("Soit le 04/07/2020")).to_be_visible()
    await days.fill("3")
    await expect(page.get_by_text("Soit le 27/06/2020")).to_be_visible()
    await window.check()
    await page.get_by_label("Délai de validation, en jours après le paiement").fill("2")
    await expect(page.get_by_text("à valider jusqu’au 29/06/2020")).to_be_visible()
    await page.get_by_label("E-mail où me prévenir").fill("caisse@canoe.example")
    await page.get_by_label("Se souvenir de cet e-mail").check()
    await page.get_by_role("button", name="Continuer").click()
    await expect(page.get_by_role("heading", name="Demande de pré-réservation différée")).to_be_visible()
    await page.get_by_label("Montant").fill("50.00")
    await page.get_by_label("E-mail du client").fill("ines@example.com")
    await page.get_by_text("Informations complémentaires").click()
    await page.get_by_label("Libellé de la transaction").fill("Week-end canoë")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Envoyer")).to_be_focused()
    recap = page.locator("dl")
    for fact in ("50,00 €", "ines@example.com", "27/06/2020 (3 jours)", "caisse@canoe.example", "Week-end canoë"):
        await expect(recap).to_contain_text(fact)
    await expect(recap.locator("div").filter(has_text="Délai de validation").locator("dd")).to_have_text("2 jours")
    await page.keyboard.press("Enter")
    request = await shown(cast, page)
    wanted = {
        "flow": "DEFERRED_WITH_VALIDATION", "collection": "EMAIL", "paymentDueOn": "2020-06-27", "validationDays": 2,
        "notifyEmail": "caisse@canoe.example", "label": "Week-end canoë", "basketNumber": "REF202006241",
    }  # fmt: skip
    assert {name: request[name] for name in wanted} == wanted
    await expect(page.locator("time")).to_contain_text("jusqu’au 27/06/2020")
    await page.goto("/payments/new")
    await page.get_by_role("link", name="P002").click()
    await window.check()
    told_at, remembered = page.get_by_label("E-mail où me prévenir"), page.get_by_label("Se souvenir de cet e-mail")
    await expect(told_at).to_have_value("caisse@canoe.example")
    await expect(remembered).to_be_checked()
    await remembered.uncheck()
    await page.get_by_label("Délai de validation, en jours après le paiement").fill("2")
    await expect(page.get_by_text("Payé aujourd’hui : à valider jusqu’au 26/06/2020")).to_be_visible()
    await page.keyboard.press("Enter")
    await page.get_by_label("Montant").fill("40")
    await page.get_by_label("Identifiant ou e-mail du client").fill("ines")
    await page.keyboard.press("Enter")
    await expect(recap).to_contain_text("26/06/2020 (2 jours)")
    await page.get_by_role("button", name="Envoyer").click()
    request = await shown(cast, page)
    assert (request["flow"], request["basketNumber"]) == ("IMMEDIATE_WITH_VALIDATION", "REF202006242")
    assert request["notifyEmail"] == "caisse@canoe.example"
    await page.goto("/payments/new")
    await page.get_by_role("link", name="P002").click()
    await window.check()
    await expect(told_at).to_have_value("")
    await expect(remembered).not_to_be_checked()


async def test_P14_P15_P16_what_is_refused_is_said_at_its_field(visitor: Visitor, cast: Cast) -> None:
    await cast.ask("40,00", basketNumber="REF1")
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments/new")
    amount = await at_the_amount(page)
    basket = page.get_by_label("N° de panier")
    suggested = await basket.input_value()
    for typed in ("19,99", "19.99", "0"):
        await amount.fill(typed)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Le montant minimum est de 20,00 €.")).to_be_visible()
        await expect(amount).to_be_focused()
    await amount.fill("1,234")
    await page.keyboard.press("Enter")
    await expect(amount).to_have_attribute("aria-invalid", "true")
    await expect(amount).to_have_value("1,234")
    await amount.fill("20,00")
    await basket.fill("")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("À remplir.")).to_have_count(1)
    await basket.fill("REF1")
    await page.get_by_role("radio", name="Identifiant du client").check()
    await page.get_by_role("button", name="Continuer").click()
    await expect(page.get_by_text("À remplir.")).to_have_count(1)
    await page.get_by_role("textbox", name="Identifiant du client").fill("ines")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Envoyer").click()
    await expect(basket).to_be_focused()
    await expect(page.get_by_text("Ce numéro de panier est déjà utilisé")).to_have_count(1)
    await page.get_by_role("button", name=f"Prendre {suggested}").click()
    await expect(basket).to_be_focused()
    await page.get_by_role("button", name="Continuer").click()
    await page.get_by_role("button", name="Envoyer").click()
    request = await shown(cast, page)
    assert (request["basketNumber"], request["customerIdentifier"]) == (suggested, "ines")
    await page.goto("/payments/new")
    await page.get_by_role("radio", name="En paiement différé").check()
    await page.get_by_label("Limite de paiement").fill("5")
    await page.keyboard.press("Enter")
    await page.get_by_label("Montant").fill("25")
    await page.get_by_label("E-mail du client").fill("pas une adresse")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Envoyer").click()
    await expect(page.get_by_label("E-mail du client")).to_be_focused()
    await page.get_by_label("E-mail du client").fill("eric@example.com")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Envoyer").click()
    assert (await shown(cast, page))["flow"] == "DEFERRED"


async def test_language_reload_and_back_lose_nothing_of_a_request(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001")
    await page.get_by_role("link", name="Nouvelle demande").first.click()
    await page.get_by_role("radio", name="Oui").check()
    await page.get_by_label("Délai de validation").fill("2")
    await page.keyboard.press("Enter")
    await page.get_by_label("Montant").fill("33,50")
    await page.get_by_label("Identifiant ou e-mail du client").fill("ines")
    await page.get_by_role("button", name="English").click()
    await expect(page.get_by_label("Amount (€20.00 at least)")).to_have_value("33,50")
    await expect(page.get_by_label("The customer’s identifier or e-mail")).to_have_value("ines")
    await page.reload()
    await expect(page.get_by_label("Amount (€20.00 at least)")).to_have_value("33,50")
    await page.go_back()
    await expect(page.get_by_role("radio", name="Yes")).to_be_checked()
    await page.go_forward()
    await expect(page.get_by_label("The customer’s identifier or e-mail")).to_have_value("ines")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("radio", name="Immediately")).to_be_focused()
    await page.get_by_role("link", name="Payments").first.click()
    await page.get_by_role("link", name="New request").first.click()
    await expect(page.locator("[value=NO]")).to_be_checked()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Amount (€20.00 at least)")).to_have_value("")
    assert (await _requests(cast))["totalCount"] == 0


async def test_whatever_becomes_of_the_answer_nothing_is_asked_twice(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments/new")
    await lost(page, "mutation createPayment")
    await (await at_the_amount(page)).fill("40")
    send = page.get_by_role("button", name="Continuer")
    await send.evaluate("(button) => { button.click(); button.click(); }")
    await expect(page.get_by_text("Le serveur ne répond pas. Rien n’a été perdu : réessayez.")).to_be_focused()
    visitor.wrong.expected("ERR_FAILED")
    assert (await _requests(cast))["totalCount"] == 1, "it was made, and nobody was told"
    await send.click()
    request = await shown(cast, page)
    assert (await _requests(cast))["nodes"] == [{"id": request["id"]}]


async def test_whoever_loads_the_page_anew_after_a_lost_answer_asks_nothing_twice(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments/new")
    await lost(page, "mutation createPayment")
    await (await at_the_amount(page)).fill("40")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Le serveur ne répond pas.")).to_be_visible()
    visitor.wrong.expected("ERR_FAILED")
    await page.reload()
    await page.get_by_role("button", name="Continuer").click()
    request = await shown(cast, page)
    assert (await _requests(cast))["nodes"] == [{"id": request["id"]}]


async def test_who_goes_elsewhere_while_a_request_is_sent_is_not_torn_back(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments/new")
    late = await held(page, "mutation createPayment")
    amount = await at_the_amount(page)
    await amount.fill("40")
    await page.keyboard.press("Enter")
    await late.given()
    for _ in range(2):
        await page.get_by_role("button", name="Annuler").click(force=True)
        await page.keyboard.press("Escape")
    await expect(amount).to_have_value("40")
    await page.get_by_role("link", name="Encaissement").first.click()
    await page.get_by_role("link", name="Nouvelle demande").first.click()
    await (await at_the_amount(page)).fill("55")
    await late.arrive()
    assert page.url.endswith("/payments/new?step=2")
    await page.reload()
    await expect(amount).to_have_value("55")
    assert (await _requests(cast))["totalCount"] == 1


async def test_G2_an_amount_goes_out_as_it_was_typed_and_is_shown_as_the_server_reads_it(
    visitor: Visitor, cast: Cast
) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments/new")
    amount = await at_the_amount(page)
    for typed in ("40 00", "20€5", "2 0", "1,234"):
        await amount.fill(typed)
        await page.keyboard.press("Enter")
        await expect(page.locator(".field .problem")).to_be_visible()
        await expect(amount).to_be_focused()
        await expect(amount).to_have_value(typed)
        await amount.fill("")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("À remplir.")).to_be_visible()
    assert (await _requests(cast))["totalCount"] == 0
    await page.get_by_role("radio", name="Identifiant du client").check()
    await page.get_by_role("textbox", name="Identifiant du client").fill("ines")
    for typed in ("1.234,56", "1,234.56", "€1,234.56", "1 234,56 €"):
        await amount.fill(typed)
        await page.keyboard.press("Enter")
        await expect(page.locator("dl")).to_contain_text("1 234,56 €")
        await page.keyboard.press("Escape")
        await expect(amount).to_have_value(typed)
    await page.keyboard.down("Enter")
    await page.keyboard.down("Enter")
    await expect(page.get_by_role("button", name="Envoyer")).to_be_focused()
    await page.keyboard.up("Enter")
    assert (await _requests(cast))["totalCount"] == 0, "Enter held down leads to the recap, and not through it"


# ── validate, cancel ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P7_P9_P26_a_payment_is_validated_for_less(visitor: Visitor, cast: Cast) -> None:
    request = await cast.ask(validationDays=2, customerIdentifier="ines")
    page = await signed_in(visitor, cast.world.slug, "p001")
    to_validate = page.get_by_role("link", name=re.compile("^À valider :"))
    await expect(to_validate).to_have_text("À valider : 0")
    (row,) = [page.get_by_role("row").filter(has_text=request["basketNumber"])]
    await expect(row.get_by_role("link")).to_have_text([request["basketNumber"], re.compile("^Voir")])
    (offer,) = (await cast.ines.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"]
    await cast.pay(offer["token"])
    await expect(to_validate).to_have_text("À valider : 1")
    await row.get_by_role("link", name=re.compile("^Valider")).click()
    dialog = page.get_by_role("dialog", name="Valider le paiement")
    await expect(dialog.get_by_role("button", name="Fermer sans valider")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    assert (await cast.read(request))["status"] == "TO_VALIDATE"
    await page.get_by_role("button", name="Valider").click()
    amount = dialog.get_by_label("Montant validé")
    await expect(amount).to_have_value("40,00")
    for typed, said in (("40,01", "Le montant reçu est de 40,00 €"), ("0", "pour tout rendre, annulez")):
        await amount.fill(typed)
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_text(said)).to_be_visible()
        await expect(amount).to_be_focused()
    await amount.fill("35,50")
    await expect(dialog.get_by_text("4,50 € reviennent au client.")).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    await expect(state(page)).to_contain_text("Validé pour 35,50 € ; 4,50 € sont revenus au client.")
    await expect(state(page)).to_be_focused()
    assert (await cast.read(request))["amountValidated"] == {"amount": "35.50"}
    assert await cast.world.wallet("ines") == 64_50
    await expect(page.get_by_role("button", name="Valider")).to_have_count(0)


async def test_P27_P28_what_waits_is_cancelled_after_a_recap(visitor: Visitor, cast: Cast) -> None:
    pending = await cast.ask("25,00")
    paid = await cast.ask(validationDays=2, customerIdentifier="ines")
    offers = (await cast.ines.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"]
    await cast.pay(offers[0]["token"])
    page = await signed_in(visitor, cast.world.slug, "p001", f"/payments/{pending['id']}")
    await page.get_by_role("button", name="Annuler la demande").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("button", name="Non")).to_be_focused()
    await expect(dialog).to_contain_text("25,00 €")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    assert (await cast.read(pending))["status"] == "AWAITING_PAYMENT"
    await page.get_by_role("button", name="Annuler la demande").click()
    await dialog.get_by_role("button", name="Oui, annuler").click()
    await expect(state(page)).to_contain_text("plus personne ne peut payer")
    assert (await cast.pay(pending))["code"] == "WRONG_STATE"
    await page.goto(f"/payments/{paid['id']}?do=cancel")
    await expect(dialog).to_contain_text("Les 40,00 € encaissés reviennent au client.")
    await dialog.get_by_role("button", name="Oui, annuler").click()
    await expect(state(page)).to_contain_text("Les 40,00 € payés sont revenus au client.")
    assert await cast.world.wallet("ines") == 100_00
    await page.reload()
    await expect(state(page)).to_contain_text("Annulé")
    await expect(dialog).to_have_count(0)


async def test_P31_what_the_customer_declines_is_seen_at_once_on_a_screen_that_stays_on(
    visitor: Visitor, cast: Cast
) -> None:
    await visitor.context.add_init_script(_COUNTS_LOCKS)
    request = await cast.ask()
    page = await signed_in(visitor, cast.world.slug, "p001", f"/payments/{request['id']}")
    await expect(page.locator(".sheet")).to_be_visible()
    assert await page.evaluate("window.locks") == 1
    await cast.ines.do("declinePaymentRequest", OFFER, token=token_of(request))
    await expect(state(page)).to_contain_text("Annulé")
    await expect(state(page)).to_contain_text("Le client a refusé de payer.")
    await expect(page.locator(".timeline strong").first).to_have_text("Refusé par le client")
    assert await page.evaluate("window.locks") == 0


async def test_P25_AP5_a_request_expires_before_the_eyes_of_the_till(visitor: Visitor, cast: Cast) -> None:
    request = await cast.ask()
    ends = datetime.fromisoformat(request["paymentDeadline"])
    await cast.world.freeze(ends - timedelta(seconds=60))
    page = await signed_in(visitor, cast.world.slug, "p001")
    await page.clock.install()
    await page.goto(f"/payments/{request['id']}")
    await expect(page.locator("time")).to_contain_text("s (")
    await cast.world.freeze(ends)
    await page.clock.fast_forward("01:01")
    await expect(state(page)).to_contain_text("Expiré")
    await expect(page.get_by_role("button", name="Imprimer")).to_have_count(0)


async def test_P21_a_late_answer_does_not_undo_what_was_told_live(visitor: Visitor, cast: Cast) -> None:
    first = await cast.ask("25,00")
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments")
    rows = page.locator("tbody tr")
    await heeded(page.context)
    await expect(rows).to_have_count(1)
    late = await held(page, "query payments")
    await page.get_by_label("Rechercher").fill("panier")
    await late.given()
    second = await cast.ask("40,00")
    awaiting = page.get_by_role("link", name=re.compile("^En attente de paiement client :"))
    await expect(rows).to_have_count(2)
    await late.arrive()
    await expect(rows).to_have_count(2)
    await expect(awaiting).to_contain_text("2")
    late = await held(page, "query payment")
    await page.get_by_role("link", name=second["basketNumber"], exact=True).click()
    await late.given()
    await cast.pay(second)
    await expect(state(page)).to_contain_text("Validé")
    await late.arrive()
    await expect(state(page)).to_contain_text("Validé")
    await expect(page.locator(".sheet")).to_have_count(0)
    await page.goto(f"/payments/{cast.world.places['P001'].global_id}")
    await expect(heading(page)).to_have_text("Demande introuvable")
    await page.goto(f"/payments/{first['id']}")
    await expect(page.locator(".sheet")).to_be_visible()


async def test_P27_what_is_on_its_way_can_no_longer_be_left_undone(visitor: Visitor, cast: Cast) -> None:
    request = await cast.ask(validationDays=2, customerIdentifier="ines")
    (offer,) = (await cast.ines.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"]
    await cast.pay(offer["token"])
    page = await signed_in(visitor, cast.world.slug, "p001", f"/payments/{request['id']}")
    late = await held(page, "mutation cancelPayment", unasked=True)
    await page.get_by_role("button", name="Annuler l’opération").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Oui, annuler").click()
    await late.given()
    for _ in range(2):
        await page.keyboard.press("Escape")
    await dialog.get_by_role("button", name="Non").click(force=True)
    await expect(dialog).to_contain_text("C’est parti : attendez la réponse.")
    await late.arrive()
    await expect(state(page)).to_contain_text("sont revenus au client")
    await expect(dialog).to_have_count(0)
    await expect(state(page)).to_be_focused()


async def test_a_question_that_somebody_else_has_settled_gives_the_focus_to_the_screen(
    visitor: Visitor, cast: Cast
) -> None:
    request = await cast.ask()
    page = await signed_in(visitor, cast.world.slug, "p001", f"/payments/{request['id']}")
    await page.get_by_role("button", name="Annuler la demande").click()
    await expect(page.get_by_role("dialog").get_by_role("button", name="Non")).to_be_focused()
    await cast.pay(request)
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(heading(page)).to_be_focused()


# ── sign-in ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P2_three_wrong_passwords_lock_and_the_mailed_link_lets_in(visitor: Visitor, cast: Cast) -> None:
    page = await visitor.page(f"/payments?issuer={cast.world.slug}")
    await expect(page.locator("[name=login]")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("À remplir.")).to_have_count(2)
    await page.locator("[name=login]").fill("708900")
    for said in ("Essais restants : 2", "Essais restants : 1", "bloqué"):
        await page.locator("[name=password]").fill("pas le bon mot de passe")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text(said)
    await page.locator("[name=password]").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("bloqué")
    await page.get_by_role("button", name="Mot de passe oublié ?").click()
    await page.get_by_role("button", name="Recevoir un lien par mail").click()
    await expect(page.locator(".screen > [role=status]")).not_to_be_empty()
    mail = await cast.running.mail(f"signataire@{cast.world.slug}.example", "/password/")
    (token,) = set(re.findall(r"/password/([A-Za-z0-9_-]+)", mail["text"]))
    await page.goto(f"/password/{token}")
    await page.locator("input[type=password]").first.fill(NEW)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Vous pouvez vous connecter")).to_be_visible()
    await page.goto("/payments")
    await page.locator("[name=login]").fill("708900")
    await page.locator("[name=password]").fill(NEW)
    await page.keyboard.press("Enter")
    await expect(heading(page)).to_have_text("Opérations")


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P6_P8_filters_live_in_the_address_and_the_export_holds_what_is_shown(
    browser: Browser, server: Server, cast: Cast
) -> None:
    for amount, place in (("20,00", "P001"), ("40,00", "P001"), ("60,00", "P002")):
        await cast.ask(amount, till=cast.signatory, pointOfSaleId=cast.world.places[place].global_id)
    cancelled = await cast.ask("80,00", label="Gilet de sauvetage")
    await cast.till.do("cancelPaymentRequest", "... on PaymentRequest { status }", id=cancelled["id"])
    async with visiting(browser, server.url, width=TILL) as someone:
        page = await signed_in(someone, cast.world.slug, "708900", "/payments")
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(4)
        await expect(page.locator("thead th")).to_have_text(
            ["Dernière action", "N° de panier", "Type", "Statut", "Montant demandé", "Montant reçu", "Actions"]
        )
        await page.get_by_role("link", name=re.compile("^En attente de paiement client :")).click()
        await expect(rows).to_have_count(3)
        await page.get_by_text("Plus de filtres").click()
        await page.get_by_label("Montant demandé, au moins").fill("30,00")
        await expect(rows).to_have_count(2)
        await page.get_by_label("Ordre").select_option(label="Montant le plus élevé d’abord")
        first = rows.first.locator("td").nth(4)
        await expect(first).to_have_text("60,00 €")
        await page.reload()
        await expect(rows).to_have_count(2)
        await expect(first).to_have_text("60,00 €")
        await expect(page.get_by_label("Montant demandé, au moins")).to_have_value("30,00")
        await expect(page.get_by_label("Statut", exact=True)).to_have_value("AWAITING_PAYMENT")
        await rows.first.get_by_role("link", name="panier-60,00", exact=True).click()
        await expect(heading(page)).to_have_text("Demande panier-60,00")
        await page.keyboard.press("Escape")
        await expect(rows).to_have_count(2)
        await page.get_by_role("button", name="Exporter").click()
        await expect(page.locator(".job")).to_contain_text("Terminé : 2 lignes.")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Télécharger").click()
        content = (await (await download.value).path()).read_bytes()
        await page.get_by_label("Rechercher").fill("gilet")
        await expect(page.get_by_text("Aucune opération ne correspond à ces filtres.")).to_be_visible()
        await expect(page.get_by_role("link", name="Télécharger")).to_have_count(0)
        await page.get_by_role("link", name="Effacer les filtres").first.click()
        await expect(rows).to_have_count(4)
        await page.get_by_label("Rechercher").fill("gilet")
        await expect(rows).to_have_count(1)
    (sheet,) = openpyxl.load_workbook(io.BytesIO(content)).worksheets
    exported = [row for row in sheet.iter_rows(min_row=2, values_only=True) if str(row[0]) != "Total"]
    assert [[cell for cell in row if str(cell).startswith("panier-")] for row in exported] == [
        ["panier-60,00"], ["panier-40,00"],
    ]  # fmt: skip


async def test_P6_the_way_back_leads_to_where_the_list_was_left(visitor: Visitor, cast: Cast) -> None:
    for n in range(105):
        await cast.ask("20,00", basketNumber=f"n{n}")
    page = await signed_in(visitor, cast.world.slug, "p001")
    await page.goto("/payments?search=n")
    rows = page.locator("tbody tr")
    for shown in (50, 100):
        await expect(rows).to_have_count(shown)
        await page.get_by_role("button", name="Afficher la suite").click()
    await expect(rows).to_have_count(105)
    row = page.get_by_role("link", name="n3", exact=True)
    for back in (
        page.go_back,
        page.get_by_role("main").get_by_role("link", name="Opérations").click,
        partial(page.keyboard.press, "Escape"),
    ):
        await row.click()
        await expect(heading(page)).to_have_text("Demande n3")
        assert await page.evaluate("scrollY") == 0
        await back()
        await expect(rows).to_have_count(105)
        await expect(row).to_be_in_viewport()
        await expect(row).to_be_focused()
        assert query(page) == {"search": ["n"]}
    await page.reload()
    await expect(rows).to_have_count(105)
    await expect(row).to_be_in_viewport()
    await page.get_by_label("Rechercher").fill("n1")
    await expect(rows).not_to_have_count(105)
    await page.get_by_role("link", name="n10", exact=True).click()
    await page.locator("nav [href='/payments']").click()
    await expect(rows).to_have_count(50)
    assert query(page) == {}


async def test_P6_a_row_that_comes_moves_no_focus_and_the_total_stays_true(visitor: Visitor, cast: Cast) -> None:
    oldest = await cast.ask("20,00", basketNumber="la plus ancienne")
    for n in range(51):
        await cast.ask("20,00", basketNumber=f"n{n}")
    page = await signed_in(visitor, cast.world.slug, "p001", "/payments")
    total = page.get_by_text(re.compile(r"^\d+ sur \d+ lignes$"))
    await expect(total).to_have_text("50 sur 52 lignes")
    await page.get_by_role("link", name="n50", exact=True).focus()
    await cast.pay(oldest)
    await expect(page.locator("tbody tr").first).to_contain_text("la plus ancienne")
    await expect(page.locator("tbody tr").first).to_contain_text("+20,00 €")
    await expect(page.get_by_role("link", name="n50", exact=True)).to_be_focused()
    await expect(total).to_have_text("51 sur 52 lignes")
    await page.get_by_role("button", name="Afficher la suite").click()
    await expect(total).to_have_text("52 sur 52 lignes")
    await expect(page.locator("tbody tr").nth(51)).to_be_focused()
    await page.get_by_label("Ordre").select_option(label="Demande la plus récente d’abord")
    await expect(total).to_have_text("50 sur 52 lignes")
    await page.get_by_role("button", name="Afficher la suite").click()
    await expect(total).to_have_text("52 sur 52 lignes")
    await cast.ask("25,00")
    await expect(total).to_have_text("53 sur 53 lignes")
    await page.get_by_label("Rechercher").fill("ancienne")
    await expect(total).to_have_count(0)
    await page.get_by_role("link", name="Effacer les filtres").click()
    await expect(page.get_by_label("Rechercher")).to_be_focused()
    await page.goto("/payments?min=2+0&since=0001-01-01")
    await expect(page.get_by_label("Montant demandé, au moins")).to_have_attribute("aria-invalid", "true")
    await expect(total).to_have_text("50 sur 53 lignes")


async def test_P21_a_server_that_starts_again_is_told_and_what_happened_meanwhile_is_shown(
    browser: Browser, server: Server, cast: Cast
) -> None:
    request = await cast.ask()
    async with visiting(browser, server.url, width=TILL) as someone:
        page = await signed_in(someone, cast.world.slug, "p001", f"/payments/{request['id']}")
        await expect(page.locator(".sheet")).to_be_visible()
        listing = await someone.page("/payments")
        await expect(listing.locator("tbody tr")).to_have_count(1)
        lost = page.get_by_text("Connexion perdue : nouvelle tentative en cours.")
        await expect(lost).to_have_count(0)
        server.stop()
        await expect(lost).to_be_visible()
        await cast.pay(request, "30,00")
        server.start()
        await expect(lost).to_have_count(0)
        await expect(state(page)).to_contain_text("Il reste 10,00 € à régler")
        await expect(listing.locator("tbody tr")).to_contain_text("Validé")
        someone.wrong.expected("WebSocket", "net::ERR_")


# ── the signatory's own affairs ───────────────────────────────────────────────────────────────────────────────────────


async def test_P4_a_signatory_gives_and_takes_rights(visitor: Visitor, cast: Cast) -> None:
    mailbox = f"jeanne@{cast.world.slug}.example"
    page = await signed_in(visitor, cast.world.slug, "708900", "/rights")
    await page.get_by_role("link", name="Nouvel utilisateur").click()
    await page.get_by_label("Identifiant de connexion").fill("P001")
    await page.get_by_label("Nom").fill("Jeanne")
    await page.get_by_label("Adresse mail").fill(mailbox)
    first = page.get_by_role("group", name=re.compile("^P001"))
    await first.get_by_label("Encaisser").check()
    await page.get_by_role("button", name="Inviter").click()
    await expect(page.get_by_text("Cet identifiant est déjà utilisé.")).to_be_visible()
    await page.get_by_label("Identifiant de connexion").fill("jeanne")
    await page.get_by_role("button", name="Inviter").click()
    await expect(heading(page)).to_have_text("Jeanne")
    await cast.running.mail(mailbox, "jeanne")
    await first.get_by_label("Encaisser").uncheck()
    await page.get_by_role("group", name=re.compile("^P002")).get_by_label("Valider").check()
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(page.get_by_text("Enregistré.")).to_be_visible()
    users = (await cast.signatory.ask("{ users { nodes { login grants { rights pointOfSale { code } } } } }"))["users"]
    (jeanne,) = [user for user in users["nodes"] if user["login"] == "jeanne"]
    assert jeanne["grants"] == [{"rights": ["VALIDATE"], "pointOfSale": {"code": "P002"}}]
    await page.get_by_role("button", name="Fermer l’accès").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("button", name="Laisser l’accès")).to_be_focused()
    await dialog.get_by_role("button", name="Fermer l’accès").click()
    await expect(page.get_by_text("L’accès est fermé.")).to_be_visible()
    await page.keyboard.press("Escape")
    row = page.get_by_role("row").filter(has_text="jeanne")
    await expect(row).to_contain_text("Accès fermé")
    await expect(row).to_contain_text("P002 : Valider")


async def test_P4_who_may_not_collect_or_export_is_offered_neither(visitor: Visitor, cast: Cast) -> None:
    rights = {"P001": frozenset({Right.VALIDATE})}
    await cast.world.user("lecture", Role.MERCHANT_STAFF, merchant="708900", grants=rights)
    request = await cast.ask()
    page = await signed_in(visitor, cast.world.slug, "lecture", "/payments")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.get_by_role("link", name="Nouvelle demande")).to_have_count(0)
    await expect(page.get_by_role("button", name="Exporter")).to_have_count(0)
    await page.goto("/payments/new")
    await expect(page.get_by_text("Aucun point d’accueil ne vous est ouvert pour encaisser")).to_be_visible()
    await page.goto(f"/payments/{request['id']}")
    await expect(page.get_by_role("button", name="Annuler la demande")).to_have_count(0)
    elsewhere = await cast.ask(till=cast.signatory, pointOfSaleId=cast.world.places["P002"].global_id)
    await page.goto(f"/payments/{elsewhere['id']}")
    await expect(heading(page)).to_have_text("Demande introuvable")
    await page.goto("/reimbursements")
    await expect(heading(page)).to_have_text("Cette page n’existe pas")


async def test_P5_P30_bank_account_places_and_reimbursements(browser: Browser, server: Server, cast: Cast) -> None:
    settings, slug = cast.world.servers.settings, cast.world.slug
    keeps = ReimbursedFlow.PAYMENT_REQUESTS
    await escarcelle_database.put_terms(settings, slug, keeps, date(2019, 1, 1), "2.5", 5)
    address = Address("1 place de l’Église", "45000", "Orléans")
    await escarcelle_database.put_paying_account(settings, slug, AGENCY_IBAN, None, "Agence du Temps Libre", address)
    await cast.world.freeze(datetime(2026, 11, 2, 10, tzinfo=PARIS).astimezone(UTC))
    async with visiting(browser, server.url, width=TILL) as someone:
        page = await signed_in(someone, slug, "708900", "/reimbursements")
        await expect(page.get_by_text("Aucun remboursement pour le moment")).to_be_visible()
        await page.get_by_role("link", name="Vérifier mon compte bancaire").click()
        await page.get_by_role("button", name="Donner un compte").click()
        await page.get_by_label("IBAN").fill("FR76 0000")
        await page.get_by_label("Titulaire du compte").fill("Canoë Kayak Club")
        password = page.get_by_label("Votre mot de passe")
        await password.fill("pas le bon mot de passe")
        await page.keyboard.press("Enter")
        await expect(password).to_be_focused()
        await expect(password).to_have_attribute("aria-invalid", "true")
        await password.fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Cet IBAN n’est pas valide.")).to_be_visible()
        await page.get_by_label("IBAN").fill(CANOE_IBAN)
        await password.fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("•••• 0189")).to_be_visible()
        await page.get_by_role("button", name="Modifier P001").click()
        await page.get_by_role("button", name="Annuler").click()
        await expect(page.get_by_role("button", name="Modifier P001")).to_be_focused()
        await page.get_by_role("button", name="Modifier P001").click()
        await page.get_by_label("Nom", exact=True).fill("Base de loisirs")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Enregistré : Base de loisirs.")).to_be_visible()
        request = await cast.ask(basketNumber="REF1")
        await cast.pay(request)
        job = await cast.agent.do("runReimbursements", f"... on Job {{ {JOB} }}", through="2026-11-02")
        assert (await finished(cast.agent, job))["status"] == "DONE"
        await page.goto("/reimbursements?status=SETTLED")
        await expect(page.get_by_text("Aucun remboursement n’a ce statut.")).to_be_visible()
        await page.get_by_label("Statut").select_option(label="Transmis à la banque")
        row = page.locator("tbody tr")
        await expect(row).to_contain_text("R2026-00000001")
        await expect(row).to_contain_text("39,00 €")
        for kind in ("PDF", "Excel"):
            link = await row.get_by_role("link", name=re.compile(f"^{kind}")).get_attribute("href")
            assert link is not None
            assert (await page.request.get(link)).status == 200, kind
        await page.reload()
        await row.get_by_role("link", name="R2026-00000001", exact=True).click()
        await expect(heading(page)).to_have_text("Remboursement R2026-00000001")
        await expect(page.get_by_text("1 sur 1 ligne")).to_be_visible()
        await expect(row).to_contain_text("P001")
        await page.get_by_role("link", name="REF1").click()
        await expect(state(page)).to_contain_text("pour un montant de 40,00 €")


# ── for everyone ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_screen_is_accessible_and_fits(
    browser: Browser, running: Running, cast: Cast, language: str
) -> None:
    paid = await cast.ask(validationDays=2, customerIdentifier="ines", label="Location de canoë")
    (offer,) = (await cast.ines.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"]
    await cast.pay(offer["token"], "30,00")
    pending = await cast.ask("25,00")
    users = (await cast.signatory.ask("{ users { nodes { id login } } }"))["users"]["nodes"]
    (staff,) = [user["id"] for user in users if user["login"] == "p001"]
    place = cast.world.places["P001"].global_id
    async with visiting(browser, running.url, language=language, width=TILL) as someone:
        page = await signed_in(someone, cast.world.slug, "708900")
        for address in (
            "/home", "/payments?status=TO_VALIDATE&min=20", f"/payments/{paid['id']}", f"/payments/{pending['id']}",
            f"/payments/{paid['id']}?do=validate", f"/payments/{pending['id']}?do=cancel", "/payments/new",
            "/reimbursements", "/merchant", "/rights", "/rights/new", f"/rights/{staff}", "/requests/new", "/documents",
            "/faq",
        ):  # fmt: skip
            await page.goto(address)
            await expect(heading(page)).to_have_count(1)
            await page.wait_for_load_state("networkidle")
            await fits(page)
            # Its rules know no language; what they find in one, they find in the other.
            if language == "fr":
                await accessible(page)
        await page.goto(f"/payments/new?place={place}")
        await page.locator("[value=LATER]").check()
        await page.locator("[value=YES]").check()
        await page.keyboard.press("Enter")
        await expect(page.locator("[aria-invalid]")).to_have_count(2)
        await fits(page)
        if language == "fr":
            await accessible(page)
        await page.locator("[name=paymentDeadline]").fill("10")
        await page.locator("[name=validationDays]").fill("2")
        await page.keyboard.press("Enter")
        await page.locator("[name=amount]").fill("1234,56")
        await page.locator("[name=customerIdentifier]").fill("ines@example.com")
        await page.locator("summary").click()
        await fits(page)
        if language == "fr":
            await accessible(page)
        await page.locator("[name=amount]").press("Enter")
        await expect(page.locator("dl")).to_contain_text("ines@example.com")
        await fits(page)
        if language == "fr":
            await accessible(page)
