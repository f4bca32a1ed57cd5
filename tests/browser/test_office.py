"""The issuer's back office: an accountant's morning, people and their dues, merchants and users, reports, the clock."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, FilePayload, Locator, Page, expect

from domain.access import Role
from domain.calendar import PARIS
from reporting import copy
from tests.browser import LANGUAGES, Visitor, accessible, fits, query, visiting
from tests.browser.answers import lost
from tests.browser.people import signed_in
from tests.flows import cast as of_payments
from tests.flows import test_vouchers as of_vouchers
from tests.flows.test_reimbursements import AGENCY_IBAN, CANOE_IBAN, Cast, begun, camt_053, entry
from tests.workbooks import xlsx
from tests.world import PASSWORD, Running, World

pytestmark = pytest.mark.anyio

ROWS = "tbody tr:not(.loading)"
TUESDAY = datetime(2026, 11, 3, 10, tzinfo=PARIS).astimezone(UTC)


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the reimbursements, on Monday, 2 November 2026, with an administrator."""
    async with of_payments.assembled(world, running) as everyone:
        begins = await begun(everyone, world, running)
        await world.user("admin", Role.ISSUER_ADMIN, email=f"admin@{world.slug}.example")
        yield begins


async def opened(running: Running, link: Locator) -> httpx.Response:
    """What a link of a page leads to, whatever address the server is known by."""
    parts = urlsplit(await link.get_attribute("href") or "")
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        return await http.get(parts.path, params=parts.query)


def facts(page: Page, label: str) -> Locator:
    """What is said under this label."""
    return page.locator("dl > div", has=page.get_by_text(label, exact=True)).locator("dd")


async def test_the_issuer_reads_a_payment_and_does_nothing_with_it(visitor: Visitor, cast: Cast) -> None:
    await cast.payments.ask("40,00", basketNumber="REF1")
    page = await signed_in(visitor, cast.world.slug, "agent", "/payments")
    await page.get_by_role("link", name="REF1", exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Demande REF1")
    await expect(page.get_by_text("En attente de paiement client").first).to_be_visible()
    for deed in ("Annuler", "Valider", "Changer de mode"):
        await expect(page.locator("main").get_by_role("button", name=deed)).to_have_count(0)
    await accessible(page)
    await fits(page)


# ── an accountant's morning ───────────────────────────────────────────────────────────────────────────────────────────


async def test_P30_an_accountants_morning(visitor: Visitor, cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.collect("20,02", "REF2")
    page = await signed_in(visitor, cast.world.slug, "agent")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Remboursements")
    await expect(page.get_by_text("Aucun remboursement pour le moment")).to_be_visible()
    await accessible(page)
    await fits(page)

    await page.get_by_role("button", name="Rembourser", exact=True).click()
    await expect(page.locator("[name=through]")).to_be_focused()
    await expect(page.locator("[name=through]")).to_have_value("2026-11-02")
    await accessible(page)
    await fits(page)
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Rembourser jusqu’au 02/11/2026 ?")
    await expect(dialog.get_by_role("button", name="Ne pas rembourser")).to_be_focused()
    await accessible(page)
    await fits(page)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert await cast.totals() == (60_02, 0), "whoever stays with the safe answer pays nobody"
    await page.get_by_role("button", name="Rembourser", exact=True).click()
    await page.keyboard.press("Enter")
    await dialog.get_by_role("button", name="Rembourser", exact=True).click()
    await expect(page.get_by_role("heading", name="Remboursement jusqu’au 02/11/2026")).to_be_visible()
    await expect(page.get_by_text("Terminé : 1 ligne.")).to_be_visible()
    # What is typed for another run is not said of this one.
    await page.get_by_role("button", name="Rembourser", exact=True).click()
    await page.locator("[name=through]").fill("")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Choisissez un jour.")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", name="Remboursement jusqu’au 02/11/2026")).to_be_visible()
    row = page.locator(ROWS)
    await expect(row).to_contain_text("Transmis à la banque")
    await expect(row).to_contain_text("58,52\u00a0€")
    paper = await opened(cast.running, page.get_by_role("link", name="Télécharger", exact=True))
    assert (paper.headers["content-type"], b"<EndToEndId>R2026-00000001<" in paper.content) == ("application/xml", True)

    await page.get_by_role("link", name="Fichiers pour la banque").click()
    await expect(page.locator(ROWS)).to_contain_text(cast.file())
    again = await opened(cast.running, page.get_by_role("link", name=f"Télécharger {cast.file()}"))
    assert again.content == paper.content
    await accessible(page)
    await fits(page)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Remboursements")

    await page.get_by_role("button", name="Réponse de la banque").click()
    await page.get_by_role("button", name="Remettre le fichier").click()
    await expect(page.get_by_text("Choisissez un fichier.")).to_be_visible()
    said = camt_053(entry("R2026-00000001", "58.52"), entry("R2026-00000099", "12.00"))
    answer: FilePayload = {"name": "releve.xml", "mimeType": "application/xml", "buffer": said}
    await page.locator("[name=file]").set_input_files(answer)
    await page.get_by_role("button", name="Remettre le fichier").click()
    await expect(page.get_by_text("R2026-00000099 : aucun remboursement ne porte cette référence.")).to_be_visible()
    await expect(page.locator(ROWS)).to_contain_text("Réglé")
    assert (await cast.totals(), await cast.kept()) == ((0, 0), (58_52, 1_50))

    await page.locator("[name=status]").select_option("PENDING")
    await expect(page.get_by_text("Aucun remboursement n’a ce statut.")).to_be_visible()
    assert query(page) == {"status": ["PENDING"]}
    await page.get_by_role("link", name="Effacer les filtres").first.click()
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.get_by_role("button", name="Exporter (Excel)").click()
    sheet = page.locator(".export").get_by_role("link", name="Télécharger", exact=True)
    assert (await opened(cast.running, sheet)).content[:2] == b"PK"


async def test_P30_what_the_bank_has_said_is_recorded_by_hand(visitor: Visitor, cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    page = await signed_in(visitor, cast.world.slug, "agent")
    await page.get_by_role("link", name="R2026-00000001").click()
    await expect(page.locator(".total")).to_have_text("39,00\u00a0€")
    await expect(facts(page, "Commission")).to_have_text("1,00\u00a0€")
    await expect(page.locator(ROWS)).to_contain_text("REF1")
    workbook = await opened(cast.running, page.get_by_role("link", name="Bordereau (Excel)"))
    assert workbook.content[:2] == b"PK"
    await accessible(page)
    await fits(page)

    await page.get_by_role("button", name="La banque a rejeté").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("40,00\u00a0€ sont de nouveau dus à Canoë Kayak Club Orléans")
    await expect(dialog.locator("[name=bankReference]")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(dialog.locator("[name=bankReference]")).to_have_attribute("aria-invalid", "true")
    assert await cast.totals() == (0, 40_00)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(page.locator(".pill")).to_contain_text("Transmis à la banque")

    # What is typed for one answer is not there for the other, where Enter would reject for good.
    await page.get_by_role("button", name="La banque a payé").click()
    await expect(dialog.locator("[aria-invalid=true]")).to_have_count(0)
    await dialog.locator("[name=bankReference]").fill("BK-1")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="La banque a rejeté").click()
    await expect(dialog.locator("[name=bankReference]")).to_have_value("")
    await page.keyboard.press("Enter")
    await expect(dialog.locator("[name=bankReference]")).to_have_attribute("aria-invalid", "true")
    await page.keyboard.press("Escape")
    assert await cast.totals() == (0, 40_00)

    await page.get_by_role("button", name="La banque a payé").click()
    await dialog.locator("[name=bankReference]").fill("BK-1")
    await page.keyboard.press("Enter")
    await expect(page.locator(".pill")).to_contain_text("Réglé")
    await expect(page.get_by_role("button", name="La banque a payé")).to_have_count(0)
    await page.get_by_role("button", name="L’argent est revenu").click()
    await dialog.locator("[name=bankReference]").fill("Compte clôturé")
    await page.keyboard.press("Enter")
    await expect(facts(page, "Motif du rejet")).to_have_text("Compte clôturé")
    assert await cast.totals() == (40_00, 0)


# ── people ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V7_dues_are_changed_and_a_wallet_credited(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "agent", "/holders")
    await page.locator("[name=search]").fill("Zoé")
    await expect(page.locator(ROWS)).to_have_count(1)
    assert query(page) == {"search": ["Zoé"]}
    await accessible(page)
    await fits(page)
    await page.get_by_role("link", name="eric").click()
    await page.locator("[name=memberSince]").fill("2020-01-01")
    await page.locator("[name=duesPaidUntil]").fill("2026-12-31")
    await page.locator("[name=street]").fill("1 rue du Port")
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(page.locator("[name=postcode]")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("[name=street]")).to_have_value("1 rue du Port")
    await page.locator("[name=postcode]").fill("44000")
    await page.locator("[name=town]").fill("Nantes")
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(page.get_by_text("Enregistré.")).to_be_visible()
    await expect(facts(page, "Cotisation payée jusqu’au")).to_have_text("31/12/2026")
    await accessible(page)
    await fits(page)

    await page.locator("[name=amount]").fill("1 000,50")
    await page.locator("[name=reason]").fill("aide aux vacances")
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog.locator(".total")).to_have_text(re.compile(r"^1\s000,50\s€$"))
    await expect(dialog.get_by_role("button", name="Ne pas créditer")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    assert await cast.world.wallet("eric") == 25_00
    await page.get_by_role("button", name="Continuer").click()
    await dialog.get_by_role("button", name="Créditer", exact=True).click()
    await expect(facts(page, "Portefeuille")).to_have_text(re.compile(r"^1\s025,50\s€$"))
    assert await cast.world.wallet("eric") == 1_025_50

    await page.locator("[name=amount]").fill("beaucoup")
    await page.locator("[name=reason]").fill("aide")
    await page.keyboard.press("Enter")
    await expect(page.locator("[name=amount]")).to_be_focused()
    await expect(page.locator("[name=amount]")).to_have_attribute("aria-invalid", "true")
    await expect(dialog).to_have_count(0)
    # The other form of the screen has problems of its own.
    await page.locator("[name=email]").fill("eric@")
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(page.locator("[name=email]")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("[name=email]")).to_be_focused()


async def test_H13_members_are_imported_and_what_is_wrong_is_said_line_by_line(visitor: Visitor, cast: Cast) -> None:
    headings = ("Numéro d’adhérent", "Nom", "E-mail", "À jour de cotisation jusqu’au")
    right = ("44001234B", "Martin", "paul@example.com", date(2026, 12, 31))
    wrong = ("44005678C", "Durand", "anna@", date(2026, 12, 31))
    page = await signed_in(visitor, cast.world.slug, "agent", "/holders/import")
    template = await opened(cast.running, page.get_by_role("link", name="Modèle de classeur"))
    assert template.content[:2] == b"PK"
    large: FilePayload = {"name": "b.xlsx", "mimeType": "application/octet-stream", "buffer": bytes(11 << 20)}
    await page.locator("[name=file]").set_input_files(large)
    await page.get_by_role("button", name="Importer").click()
    await expect(page.locator(".field .problem")).to_have_text("Ce fichier est trop volumineux : 10 Mo au plus.")
    await expect(page.locator("[name=file]")).to_be_focused()
    for rows in ((headings, right, wrong), (headings, right)):
        book: FilePayload = {"name": "a.xlsx", "mimeType": "application/octet-stream", "buffer": xlsx(*rows)}
        await page.locator("[name=file]").set_input_files(book)
        await page.get_by_role("button", name="Importer").click()
        if wrong in rows:
            said = "Ligne 3, colonne C : Cette adresse e-mail n’est pas valide."
            await expect(page.get_by_text(said)).to_be_visible()
            await expect(page.get_by_text("Rien n’a été importé.")).to_be_visible()
            await accessible(page)
            await fits(page)
    await expect(page.get_by_text("Terminé : 1 ligne.")).to_be_visible()
    await expect(page.get_by_text("Rien n’a été importé.")).to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(page.locator(ROWS, has_text="44001234B")).to_contain_text("jusqu’au 31/12/2026")
    await expect(page.locator(ROWS, has_text="44005678C")).to_have_count(0)


async def test_P4_a_merchant_its_point_of_sale_and_a_user_who_can_then_sign_in(browser: Browser, cast: Cast) -> None:
    address = f"ponton@{cast.world.slug}.example"
    async with (
        visiting(browser, cast.running.url) as office,
        visiting(browser, cast.running.url, width=390) as newcomer,
    ):
        page = await signed_in(office, cast.world.slug, "admin", "/merchants")
        await page.get_by_role("link", name="Nouveau commerçant").click()
        await expect(page.locator("[name=code]")).to_be_focused()
        await page.locator("[name=code]").fill("708900")
        await page.locator("[name=name]").fill("Voile Club")
        place_code, place_name = page.get_by_label("Code", exact=True), page.get_by_label("Nom du point d’accueil")
        await place_code.fill("V001")
        await place_name.fill("Le ponton")
        await accessible(page)
        await fits(page)
        await page.keyboard.press("Enter")
        await expect(page.locator("[name=code]")).to_have_attribute("aria-invalid", "true")
        await page.locator("[name=code]").fill("909000")
        await page.get_by_role("button", name="Ajouter un point d’accueil").click()
        await place_code.nth(1).fill("V001")
        await place_name.nth(1).fill("La berge")
        await page.keyboard.press("Enter")
        await expect(place_code.nth(1)).to_have_attribute("aria-invalid", "true")
        await expect(place_code.nth(1)).to_be_focused()
        await expect(page.locator("[aria-invalid=true]")).to_have_count(1)
        await place_code.nth(1).fill("")
        await place_name.nth(1).fill("")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Voile Club")
        await expect(page.locator(ROWS)).to_contain_text("Le ponton")
        await page.get_by_label("Validation automatique").check()
        await page.get_by_role("button", name="Enregistrer", exact=True).click()
        await expect(page.get_by_text("Enregistré.")).to_be_visible()
        await accessible(page)
        await fits(page)
        await page.get_by_role("button", name="Donner un compte").click()
        await page.locator("[name=iban]").fill(CANOE_IBAN)
        await page.locator("[name=currentPassword]").fill("un autre mot de passe")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Le mot de passe actuel est erroné.")).to_be_visible()
        await expect(page.locator("[name=currentPassword]")).to_be_focused()
        await page.locator("[name=currentPassword]").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(facts(page, "IBAN")).to_have_text("•••• 0189")
        await page.get_by_role("button", name="Changer de compte").click()
        await page.locator("[name=iban]").fill(AGENCY_IBAN)
        await page.locator("[name=currentPassword]").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("le prochain remboursement le laisse de côté.").first).to_be_visible()

        await page.goto("/users/new")
        await page.locator("[name=login]").fill("909000-V001")
        await page.locator("[name=name]").fill("L’accueil du ponton")
        await page.locator("[name=email]").fill(address)
        await page.locator("[name=merchantId]").select_option(label="Voile Club (909000)")
        await page.get_by_role("group", name="V001 – Le ponton").get_by_label("Encaisser").check()
        await accessible(page)
        await fits(page)
        await page.get_by_role("button", name="Créer et inviter").click()
        await expect(page.get_by_text("l’invitation est partie par mail")).to_be_visible()
        assert query(page) == {}, "a reload says nothing twice"
        await expect(page.get_by_label("Encaisser")).to_be_checked()
        await accessible(page)
        await fits(page)

        mail = await cast.running.mail(address, "/password/")
        link = re.search(r"/password/[A-Za-z0-9_-]+", mail["text"])
        assert link is not None
        theirs = await newcomer.page(link[0])
        await theirs.locator("[name=password]").fill("le mot de passe du ponton")
        await theirs.keyboard.press("Enter")
        await expect(theirs.locator("[name=password]")).to_have_count(0)
        await theirs.goto(f"/?issuer={cast.world.slug}")
        await theirs.locator("[name=login]").fill("909000-V001")
        await theirs.locator("[name=password]").fill("le mot de passe du ponton")
        await theirs.keyboard.press("Enter")
        await expect(theirs.get_by_role("link", name="L’accueil du ponton")).to_be_visible()
        await theirs.close()

        await page.get_by_role("button", name="Fermer l’accès").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("button", name="Laisser l’accès")).to_be_focused()
        await dialog.get_by_role("button", name="Fermer l’accès").click()
        await expect(page.get_by_text("Accès fermé")).to_be_visible()
        again = await newcomer.page("/")
        await expect(again.locator("[name=login]")).to_be_visible()


async def test_P4_a_users_role_and_language_are_changed(visitor: Visitor, cast: Cast) -> None:
    users = (await cast.payments.agent.ask('{ users(search: "p001") { nodes { id login } } }'))["users"]["nodes"]
    (staff,) = [user["id"] for user in users if user["login"] == "p001"]
    page = await signed_in(visitor, cast.world.slug, "admin", f"/users/{staff}")
    role, language = page.locator("[name=role]"), page.locator("[name=locale]")
    await expect(role.locator("option")).to_have_text(["Signataire d’un commerçant", "Personnel d’un commerçant"])
    await expect(language).to_have_value("FR")
    await accessible(page)
    await fits(page)
    await role.select_option("MERCHANT_MANAGER")
    await expect(page.get_by_role("group")).to_have_count(0)
    await language.select_option("EN")
    await page.locator("[name=email]").fill("p001@")
    async with cast.world.unchanged():
        await page.get_by_role("button", name="Enregistrer").click()
        await expect(page.locator("[name=email]")).to_be_focused()
        await expect(page.locator("[name=email]")).to_have_attribute("aria-invalid", "true")
        await expect(role).to_have_value("MERCHANT_MANAGER")
    await page.locator("[name=email]").fill(f"p001@{cast.world.slug}.example")
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(page.get_by_text("Enregistré.")).to_be_visible()
    await expect(facts(page, "Rôle")).to_have_text("Signataire d’un commerçant")
    about = '{ users(search: "p001") { nodes { id role locale grants { rights } } } }'
    assert (await cast.payments.agent.ask(about))["users"]["nodes"] == [
        {"id": staff, "role": "MERCHANT_MANAGER", "locale": "EN", "grants": []}
    ]
    await role.select_option("MERCHANT_STAFF")
    await page.get_by_role("group", name="P002").get_by_label("Valider").check()
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(facts(page, "Rôle")).to_have_text("Personnel d’un commerçant")
    await page.keyboard.press("Escape")
    await expect(page.locator(ROWS, has_text="p001")).to_contain_text("P002 : Valider")

    await page.get_by_role("link", name="agent", exact=True).click()
    await expect(role.locator("option")).to_have_text(["Administrateur", "Agence"])
    await page.goto("/users")
    await page.get_by_role("link", name="admin", exact=True).click()
    await expect(language).to_be_visible()
    await expect(role).to_have_count(0)


async def test_P4_an_agent_is_offered_what_it_may_do_with_a_user(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "agent", "/users")
    main = page.locator("main")
    for login, offered in (("admin", []), ("agent", ["Enregistrer"]), ("p001", ["Enregistrer", "Fermer l’accès"])):
        await page.get_by_role("link", name=login, exact=True).click()
        await expect(facts(page, "Identifiant de connexion")).to_have_text(login)
        for name in ("Enregistrer", "Fermer l’accès"):
            await expect(main.get_by_role("button", name=name)).to_have_count(int(name in offered))
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Utilisateurs")


async def test_P4_a_holder_gets_a_sign_in_and_what_is_emptied_is_gone(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "agent", "/holders")
    await page.get_by_role("link", name="eric").click()
    await page.locator("[name=firstName]").fill("Érica")
    await page.locator("[name=mobile]").fill("06 12 34 56 78")
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Érica")
    await page.locator("[name=mobile]").fill("")
    await page.get_by_role("button", name="Enregistrer").click()
    await expect(page.get_by_text("Enregistré.")).to_be_visible()
    await page.reload()
    await expect(page.locator("[name=firstName]")).to_have_value("Érica")
    await expect(page.locator("[name=mobile]")).to_have_value("")

    await page.get_by_role("link", name="Créer son accès").click()
    await expect(page.locator("[name=login]")).to_have_value("eric")
    await expect(page.locator("[name=role]")).to_have_count(0)
    await accessible(page)
    await fits(page)
    await page.locator("[name=email]").fill(f"erica@{cast.world.slug}.example")
    async with cast.world.unchanged():
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Cet identifiant est déjà utilisé.")).to_be_visible()
        await expect(page.locator("[name=login]")).to_be_focused()
    await page.locator("[name=login]").fill("erica")
    await page.keyboard.press("Enter")
    await expect(facts(page, "Rôle")).to_have_text("Titulaire")
    mail = await cast.running.mail(f"erica@{cast.world.slug}.example", "/password/")
    assert "erica" in mail["text"]


async def test_a_merchant_whose_answer_was_lost_is_made_once_and_stays_chosen(visitor: Visitor, cast: Cast) -> None:
    await asyncio.gather(*(cast.world.merchant(f"M{n:03d}", f"Aviron {n:03d}", {}) for n in range(200)))
    page = await signed_in(visitor, cast.world.slug, "agent", "/merchants/new")
    await lost(page, "mutation createMerchant")
    await page.locator("[name=code]").fill("909000")
    await page.locator("[name=name]").fill("Voile Club")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Le serveur ne répond pas.")).to_be_visible()
    visitor.wrong.expected("ERR_FAILED")
    await page.get_by_role("button", name="Créer").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Voile Club")

    # Where merchants are many, a search comes before; it takes nothing away that was chosen.
    await page.goto("/users/new")
    await page.locator("[name=merchantSearch]").fill("Voile")
    await expect(page.locator("[name=merchantId] option")).to_have_count(2)
    await page.locator("[name=merchantId]").select_option(label="Voile Club (909000)")
    await page.locator("[name=merchantSearch]").fill("Aviron 199")
    await expect(page.locator("[name=merchantId] option", has_text="Aviron 199")).to_have_count(1)
    await expect(page.locator("[name=merchantId] option:checked")).to_have_text("Voile Club (909000)")


# ── reports and the clock ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_report_is_read_drawn_and_exported(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "agent", "/reports")
    await expect(page.get_by_text("Il n’y a pas encore d’entrepôt de rapports")).to_be_visible()
    await accessible(page)
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.world.freeze(TUESDAY)
    await cast.collect("20,00", "REF2")
    (issuer,) = copy.issuers(cast.running.settings, cast.world.slug)
    done = await asyncio.to_thread(copy.copy, cast.running.settings, issuer)
    assert done is not None
    await copy.record(cast.running.settings, done)

    await page.reload()
    await expect(page.get_by_role("heading", level=2)).to_have_text("Dû aux commerçants, non encore remboursé")
    await expect(page.get_by_text("Dernière copie du grand livre : 03/11/2026 10h00.")).to_be_visible()
    await expect(page.locator("tfoot")).to_contain_text("60,00\u00a0€")
    await page.locator("[name=asOf]").fill("2026-11-02T12:00")
    await page.keyboard.press("Tab")
    await expect(page.locator("tfoot")).to_contain_text("40,00\u00a0€")
    await page.get_by_role("link", name="Effacer les filtres").click()
    await expect(page.locator("tfoot")).to_contain_text("60,00\u00a0€")

    # What stands in the address and is no day narrows nothing.
    await page.goto("/reports?kind=OPERATIONS&asOf=2026-13-45T10:00&since=foo&until=2026-02-31")
    await expect(page.locator(ROWS).first).to_be_visible()
    await expect(page.get_by_role("link", name="Effacer les filtres")).to_have_count(0)
    await page.locator("[name=since]").fill("2026-11-02")
    await page.keyboard.press("Tab")
    await page.get_by_role("link", name="Effacer les filtres").click()
    await expect(page.locator("[name=since]")).to_have_value("")
    assert query(page) == {"kind": ["OPERATIONS"]}
    chart = page.get_by_role("img", name="Courbe des montants par jour ; le tableau les donne.")
    await expect(chart.locator("canvas")).to_be_visible()
    await accessible(page)
    await fits(page)
    await page.locator("[name=since]").fill("2026-11-03")
    await page.keyboard.press("Tab")
    await expect(chart).to_have_count(0)
    assert query(page) == {"kind": ["OPERATIONS"], "since": ["2026-11-03"]}
    await page.locator("[name=merchantId]").select_option(label="Auberge du Moulin (808100)")
    await expect(page.get_by_text("Rien à montrer")).to_be_visible()
    await page.go_back()
    await page.goto("/reports?kind=BALANCES")
    await expect(page.locator("[name=since]")).to_have_count(0)
    await expect(page.locator(ROWS).first).to_be_visible()
    for kind, begins in (("XLSX", b"PK"), ("CSV", b"\xef\xbb\xbf"), ("PARQUET", b"PAR1")):
        await page.locator("[name=format]").select_option(kind)
        await page.get_by_role("button", name="Exporter").click()
        link = page.get_by_role("link", name="Télécharger", exact=True)
        ending = f".{kind.lower()}"
        await expect(link).to_have_attribute("href", re.compile(r"/files/"))
        answer = await opened(cast.running, link)
        assert ending in answer.headers["content-disposition"]
        assert answer.content.startswith(begins)
        await page.reload()


async def test_a_sandboxs_clock_is_moved(visitor: Visitor, cast: Cast) -> None:
    await cast.world.freeze(None)
    page = await signed_in(visitor, cast.world.slug, "agent", "/clock")
    await expect(page.locator("[name=days]")).to_be_focused()
    before = await page.locator("time").get_attribute("datetime")
    assert before is not None
    await accessible(page)
    await fits(page)
    await page.locator("[name=days]").fill("beaucoup")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Un nombre entier.")).to_be_visible()
    dialog = page.get_by_role("dialog")
    await page.locator("[name=days]").fill("401")
    await page.keyboard.press("Enter")
    await dialog.get_by_role("button", name="Avancer l’horloge").click()
    await expect(page.locator("[aria-invalid=true]").or_(page.get_by_role("alert").locator("p")).first).to_be_visible()
    await page.locator("[name=days]").fill("40")
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("button", name="La laisser à l’heure")).to_be_focused()
    await accessible(page)
    await fits(page)
    await dialog.get_by_role("button", name="Avancer l’horloge").click()
    await expect(page.get_by_text("L’horloge marque maintenant")).to_be_visible()
    after = await page.locator("time").get_attribute("datetime")
    assert after is not None
    assert (datetime.fromisoformat(after) - datetime.fromisoformat(before)).days == 40
    await expect(page.get_by_role("link", name="Voir les courriers partis d’ici")).to_have_attribute("href", "/mails")
    # It was asked whether there is one, and not gone to.
    visitor.wrong.expected(cast.running.mail_page_url)


# ── vouchers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V22_statements_are_issued_and_vouchers_taken_back(
    browser: Browser, world: World, running: Running
) -> None:
    async with of_vouchers.assembled(world, running) as federation, visiting(browser, running.url) as office:
        await federation.agency.do(
            "updateHolder", "... on Holder { id }", id=world.holders["44001234B"].global_id, statementBy="POST",
            postalAddress={"street": "1 rue du Port", "postcode": "44000", "town": "Nantes"},
        )  # fmt: skip
        voucher, code = await federation.delivered("100")
        given = {"voucherNumber": voucher["number"], "secretCode": code, "amount": "90", "invoiceNumber": "F-1"}
        await federation.supplier.do("recordSupplierInvoice", "... on SupplierInvoice { id }", **given)
        await federation.request("50")

        page = await signed_in(office, world.slug, "agence", "/vouchers")
        await expect(page.locator(ROWS)).to_have_count(2)
        await page.locator("[name=status]").select_option("ISSUED")
        await expect(page.locator(ROWS)).to_have_count(1)
        await accessible(page)
        await fits(page)
        await fits(page, 800)
        await fits(page, 1024)
        await page.locator(ROWS).get_by_role("link").click()
        await expect(page.locator(".total")).to_have_text("50,00\u00a0€")
        await accessible(page)
        await fits(page)
        await page.get_by_role("button", name="Annuler le bon").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("La garantie de Martin est libérée")
        await dialog.get_by_role("button", name="Annuler le bon").click()
        await expect(page.get_by_text("8-annulé")).to_be_visible()
        await expect(page.get_by_role("button", name="Annuler le bon")).to_have_count(0)
        assert (await federation.accounts())[0] == 0

        await page.get_by_role("link", name="Relevés").click()
        month = await page.evaluate(
            "new Date().toLocaleDateString('fr-FR', {month: 'long', year: 'numeric', timeZone: 'Europe/Paris'})"
        )
        await page.get_by_role("button", name="Émettre les relevés").click()
        await expect(page.locator("[name=month]")).to_be_focused()
        await page.keyboard.press("Enter")
        recap = page.get_by_role("dialog", name=f"Émettre les relevés : {month} ?")
        await expect(recap.get_by_role("button", name="Ne rien émettre")).to_be_focused()
        await accessible(page)
        await fits(page)
        await recap.get_by_role("button", name="Émettre", exact=True).click()
        await expect(page.get_by_text("Le fichier est le lot à imprimer")).to_be_visible()
        # Another month in the dialog, or none, says nothing about this job.
        await page.get_by_role("button", name="Émettre les relevés").click()
        for typed in ("2027-06", ""):
            await page.locator("[name=month]").fill(typed)
            await expect(page.locator("h2").first).to_have_text(f"Relevés : {month}")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Choisissez un mois.")).to_be_visible()
        await page.keyboard.press("Escape")
        batch = await opened(running, page.get_by_role("link", name="Télécharger", exact=True))
        assert batch.content.startswith(b"%PDF")
        await expect(page.locator(ROWS)).to_contain_text("Martin (44001234B)")
        await expect(page.locator(ROWS)).to_contain_text("90,00\u00a0€")
        await accessible(page)
        await fits(page)


# ── both languages ────────────────────────────────────────────────────────────────────────────────────────────────────

SCREENS = {
    "/reimbursements": "Reimbursements",
    "/reimbursements/files": "Files for the bank",
    "/payments": "Payments",
    "/vouchers": "Vouchers",
    "/invoices": "Invoices",
    "/invoices/new": "Record an invoice",
    "/verify": "Verify a voucher",
    "/statements": "Members’ statements",
    "/holders": "Holders",
    "/holders/new": "New holder",
    "/holders/import": "Import members",
    "/merchants": "Merchants",
    "/merchants/new": "New merchant",
    "/users": "Users",
    "/users/new": "New user",
    "/publications": "Publications",
    "/reports": "Reports",
    "/clock": "The sandbox’s clock",
}


async def test_every_screen_speaks_english_and_fits(browser: Browser, cast: Cast) -> None:
    await cast.collect("40,00", "REF1")
    async with visiting(browser, cast.running.url, language="en") as office:
        page = await signed_in(office, cast.world.slug, "admin")
        for address, title in SCREENS.items():
            await page.goto(address)
            await expect(page.get_by_role("heading", level=1)).to_have_text(title)
            await expect(page).to_have_title(f"{title} – Escarcelle")
            await expect(page.locator("[aria-busy=true], .loading")).to_have_count(0)
            await fits(page)
            await fits(page, 800)
            await fits(page, 1024)
        for address in ("/reimbursements", "/users", "/merchants"):
            await page.goto(address)
            await accessible(page)
        office.wrong.expected(cast.running.mail_page_url)

        await cast.world.holder("long", "Long" * 26)
        await page.goto("/holders?search=long")
        await expect(page.locator(ROWS)).to_have_count(1)
        for width in (800, 1024, 1280):
            await fits(page, width)
        await fits(page)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_language_changes_without_losing_what_was_typed(browser: Browser, cast: Cast, language: str) -> None:
    async with visiting(browser, cast.running.url, language=language) as office:
        page = await signed_in(office, cast.world.slug, "agent", "/holders/new")
        await page.locator("[name=name]").fill("Lefèvre")
        await page.get_by_role("button", name={"fr": "English", "en": "Français"}[language]).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            {"fr": "New holder", "en": "Nouveau titulaire"}[language]
        )
        await expect(page.locator("[name=name]")).to_have_value("Lefèvre")
