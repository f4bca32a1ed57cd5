"""The merchant's first screen and what it leads to: requests to the issuer, what it publishes, points of sale."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser import LANGUAGES, Visitor, accessible, fits, visiting
from tests.browser.answers import held
from tests.browser.people import signed_in
from tests.flows.cast import Cast, assembled
from tests.flows.test_publications import DOCUMENT, GUIDE, ITEM, NEWS
from tests.world import Running, World

pytestmark = pytest.mark.anyio

PHONE = 390


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the payment requests, at an issuer that answers mails."""
    async with assembled(world, running) as everyone:
        await reached_at(world, f"aide@{world.slug}.example", "02 00 00 00 00")
        yield everyone


async def reached_at(world: World, email: str | None, phone: str | None) -> None:
    """Where the issuer is asked."""
    await world.as_owner(
        "UPDATE issuers SET support_email = $2, support_phone = $3 WHERE tenant = $1", world.tenant, email, phone
    )


def heading(page: Page) -> Locator:
    """The name of the screen."""
    return page.get_by_role("heading", level=1)


def cards(page: Page) -> Locator:
    """What the first screen leads to, in its order."""
    return page.locator("main li strong")


async def test_P5_the_first_screen_lists_all_that_the_space_is_for(browser: Browser, cast: Cast) -> None:
    leads_to = {
        "Mon compte": "Mon compte",
        "Mes remboursements": "Mes remboursements",
        "Mes données mises en ligne": "Mes données mises en ligne",
        "Mes demandes": "Mes demandes",
        "Ma documentation": "Ma documentation",
        "Encaissement": "Opérations",
        "FAQ": "Questions fréquentes",
        "Mes promotions": "Mes demandes",
        "Gestion des droits": "Gestion des droits",
    }
    async with visiting(browser, cast.running.url) as someone:
        page = await signed_in(someone, cast.world.slug, "708900", "/home")
        await expect(cards(page)).to_have_text(list(leads_to))
        for card, title in leads_to.items():
            await page.goto("/home")
            await page.locator("main li").get_by_role("link", name=card).click()
            await expect(heading(page)).to_have_text(title)
    async with visiting(browser, cast.running.url) as someone:
        page = await signed_in(someone, cast.world.slug, "p001", "/home")
        own = ("Mes remboursements", "Mes données mises en ligne", "Gestion des droits")
        await expect(cards(page)).to_have_text([card for card in leads_to if card not in own])


async def test_P5_a_merchant_asks_for_something_and_is_told_where_the_answer_comes(
    visitor: Visitor, cast: Cast
) -> None:
    support, signatory = f"aide@{cast.world.slug}.example", f"signataire@{cast.world.slug}.example"
    page = await signed_in(visitor, cast.world.slug, "708900", "/requests/new")
    subject, message = page.get_by_label("Objet"), page.get_by_label("Message")
    await page.get_by_role("button", name="Envoyer").click()
    await expect(subject).to_be_focused()
    await expect(page.get_by_text("Ce champ est obligatoire.")).to_have_count(1)
    await page.get_by_label("Votre demande").select_option(label="Commander des bordereaux de remise")
    await expect(subject).to_have_value("Commander des bordereaux de remise")
    await expect(page.get_by_text("Combien, et à quelle adresse les envoyer.")).to_be_visible()
    await subject.press("Enter")
    await expect(message).to_be_focused()
    await expect(message).to_have_attribute("aria-invalid", "true")
    await message.fill("Cinquante,\nà la base.")
    for words in ("708900", "Canoë Kayak Club Orléans – 708900", "Agence du Temps Libre", signatory):
        await expect(page.locator("dd").get_by_text(words, exact=True)).to_be_visible()
    await page.get_by_role("button", name="Envoyer").click()
    await expect(page.get_by_role("status").get_by_text(f"La réponse viendra à {signatory}")).to_be_visible()
    again = page.get_by_role("button", name="Écrire un autre message")
    await expect(again).to_be_focused()
    await again.press("Enter")
    await expect(subject).to_have_value("")
    mail = await cast.running.mail(support, "Commander des bordereaux de remise")
    assert "> à la base." in mail["text"].splitlines()


async def test_P5_a_promotion_is_a_request_that_is_begun_already(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001", "/home")
    await page.get_by_role("link", name="Mes promotions").click()
    await expect(page.get_by_label("Objet")).to_have_value("Publier une promotion")
    await page.get_by_label("Votre demande").select_option(label="Autre chose")
    await expect(page.get_by_label("Objet")).to_have_value("")
    await page.keyboard.press("Escape")
    await expect(heading(page)).to_have_text("Accueil")


async def test_P5_an_issuer_without_an_address_is_called(visitor: Visitor, cast: Cast) -> None:
    await reached_at(cast.world, None, "02 00 00 00 00")
    page = await signed_in(visitor, cast.world.slug, "708900", "/requests/new")
    await expect(page.get_by_text("Agence du Temps Libre ne reçoit pas de messages ici.")).to_be_visible()
    assert await page.get_by_role("link", name="02 00 00 00 00").get_attribute("href") == "tel:0200000000"
    await expect(page.locator("form")).to_have_count(0)


async def test_P5_a_customer_writes_too(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "ines", "/offers")
    await page.get_by_role("link", name="Nous écrire").click()
    await expect(page.get_by_label("Votre demande")).to_have_count(0)
    await expect(page.get_by_text("Votre compte n’a pas d’adresse e-mail")).to_be_visible()
    await page.get_by_label("Objet").fill("Mon solde")
    await page.get_by_label("Message").fill("Il manque dix euros.")
    await page.get_by_role("button", name="Envoyer").click()
    await expect(page.get_by_text("Votre message est envoyé à Agence du Temps Libre.")).to_be_visible()
    mail = await cast.running.mail(f"aide@{cast.world.slug}.example", "Mon solde")
    assert "> Il manque dix euros." in mail["text"].splitlines()


async def test_P5_what_the_office_publishes_a_merchant_reads(browser: Browser, cast: Cast) -> None:
    async with visiting(browser, cast.running.url) as office, visiting(browser, cast.running.url) as merchant:
        desk = await signed_in(office, cast.world.slug, "agent", "/publications")
        await expect(desk.get_by_text("Aucune actualité")).to_be_visible()
        await desk.get_by_role("button", name="Publier une actualité").click()
        dialog = desk.get_by_role("dialog")
        await dialog.get_by_label("Titre en français").fill("Du nouveau")
        await desk.keyboard.press("Enter")
        await expect(dialog.get_by_label("Titre en anglais")).to_be_focused()
        await expect(dialog.locator("[aria-invalid]")).to_have_count(1)
        await dialog.get_by_label("Titre en anglais").fill("Something new")
        await dialog.get_by_label("Texte en français").fill("Voici.")
        await dialog.get_by_label("Texte en anglais").fill("Here it is.")
        await dialog.get_by_role("button", name="Publier").click()
        await expect(desk.get_by_text("C’est publié.")).to_be_visible()
        await desk.get_by_role("button", name="Publier un document").click()
        await dialog.get_by_label("Questions fréquentes").check()
        await dialog.get_by_label("Titre en français").fill("Foire aux questions")
        await dialog.get_by_label("Titre en anglais").fill("Questions and answers")
        await dialog.get_by_label("Adresse").fill("http://example.com/faq")
        await desk.keyboard.press("Enter")
        await expect(dialog.get_by_text("Une adresse qui commence par https:// est attendue.")).to_be_visible()
        await dialog.get_by_label("Adresse").fill("https://example.com/faq")
        await desk.keyboard.press("Enter")
        await expect(desk.get_by_role("dialog")).to_have_count(0)
        await accessible(desk)
        await fits(desk)

        page = await signed_in(merchant, cast.world.slug, "p001", "/home")
        await expect(page.get_by_text("Voici.")).to_be_visible()
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_text("Something new")).to_be_visible()
        await page.get_by_role("button", name="Français").click()
        await page.get_by_role("link", name="FAQ").click()
        link = page.get_by_role("link", name="Foire aux questions (nouvel onglet)")
        found = [await link.get_attribute(name) for name in ("href", "target", "rel")]
        assert found == ["https://example.com/faq", "_blank", "noopener noreferrer"]

        late = await held(desk, "query news")
        await desk.get_by_role("button", name="Retirer Foire aux questions").click()
        await expect(dialog.get_by_role("button", name="La laisser")).to_be_focused()
        await dialog.get_by_role("button", name="Retirer").click()
        await expect(desk.get_by_text("Retiré : Foire aux questions.")).to_be_visible()
        await late.given()
        await desk.get_by_role("button", name="Retirer Du nouveau").click()
        await dialog.get_by_role("button", name="Retirer").click()
        await expect(desk.get_by_text("Aucune actualité")).to_be_visible()
        await late.arrive()
        await expect(desk.get_by_text("Aucune actualité")).to_be_visible()
        await page.reload()
        await expect(page.get_by_text("Agence du Temps Libre n’a encore rien publié ici.")).to_be_visible()


async def test_P5_three_pieces_of_news_and_the_others_behind(visitor: Visitor, cast: Cast) -> None:
    for n in range(5):
        await cast.agent.do(
            "publishNews", NEWS, **(ITEM | {"titleFr": f"Nouvelle {n}"}), publishedOn=f"2026-01-0{n + 1}"
        )
    page = await signed_in(visitor, cast.world.slug, "708900", "/home")
    titles = page.locator("summary strong")
    await expect(titles).to_have_text(["Nouvelle 4", "Nouvelle 3", "Nouvelle 2"])
    await expect(page.locator("details[open]")).to_have_count(1)
    await page.get_by_role("button", name="Afficher 2 actualités plus anciennes").click()
    await expect(titles).to_have_count(5)


async def test_P5_the_address_of_a_point_of_sale_is_changed_by_the_signatory(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900", "/merchant")
    row = page.locator("li").filter(has_text="P001")
    await expect(row).to_contain_text("Adresse à compléter")
    await page.get_by_role("button", name="Modifier P001").click()
    await page.get_by_label("Rue").fill("12 quai de la Loire")
    async with cast.world.unchanged():
        await page.keyboard.press("Enter")
        postcode = page.get_by_label("Code postal")
        await expect(postcode).to_be_focused()
        await expect(postcode).to_have_attribute("aria-invalid", "true")
    await postcode.fill("45650")
    await page.get_by_label("Ville").fill("Saint-Jean-le-Blanc")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Enregistré : Canoë Kayak Club – Saint-Jean-le-Blanc.")).to_be_visible()
    await expect(row).to_contain_text("12 quai de la Loire, 45650 Saint-Jean-le-Blanc")
    await page.reload()
    await expect(row).to_contain_text("12 quai de la Loire, 45650 Saint-Jean-le-Blanc")
    await page.get_by_role("button", name="Modifier P001").click()
    await expect(page.get_by_label("Ville")).to_have_value("Saint-Jean-le-Blanc")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_P5_its_screens_are_accessible_and_fit(browser: Browser, cast: Cast, language: str) -> None:
    await cast.agent.do("publishNews", NEWS, **ITEM)
    for kind in ("GUIDE", "COMMUNICATION", "FAQ"):
        await cast.agent.do("publishDocument", DOCUMENT, **(GUIDE | {"kind": kind}))
    async with visiting(browser, cast.running.url, language=language, width=PHONE) as someone:
        page = await signed_in(someone, cast.world.slug, "708900")
        for address in ("/home", "/documents", "/faq", "/requests/new?about=chorus", "/merchant"):
            await page.goto(address)
            await expect(heading(page)).to_have_count(1)
            await page.wait_for_load_state("networkidle")
            await fits(page)
            if language == "fr":
                await accessible(page)
