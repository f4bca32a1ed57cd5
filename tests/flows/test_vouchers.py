"""Vouchers, from the member's request to the supplier's invoice, in the words of the manual."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.access import Right, Role
from domain.calendar import PARIS
from domain.codes import read_global_id
from escarcelle.clients import Client, Unexpected
from tests.world import Running, World, environment

pytestmark = pytest.mark.anyio

VOUCHER = """... on Voucher {
  id status statusCode statusLabel number value { amount formatted } issuedAt validUntil blocked allowedActions
  kind { code name } supplier { name } holder { reference name email } whereToFind certification
  presentation { revealedAt secretCode deliveredAt }
}"""
INVOICE = """... on SupplierInvoice {
  id invoiceNumber amount { amount } excess { amount } decision voucher { id status number }
}"""
LIST = "query ($search: String, $status: [VoucherStatus!], $orderBy: VoucherOrder! = NEWEST) {"
LIST += " vouchers(search: $search, status: $status, orderBy: $orderBy) { totalCount nodes {"
LIST += " id kind { name } statusLabel statusCode value { amount } presentation { secretCode } } } }"

SUNDAY_NIGHT = datetime(2026, 11, 22, 23, 40, tzinfo=PARIS).astimezone(UTC)


@dataclass
class Cast:
    """A federation; Paul Martin, a member whose dues are paid for the year, and Anna, another; two suppliers; the
    agency."""

    world: World
    running: Running
    agency: Client
    paul: Client
    paul_elsewhere: Client
    anna: Client
    supplier: Client
    other_supplier: Client
    supplier_id: str

    async def request(self, amount: str = "123,01", *, by: Client | None = None, **given: Any) -> dict[str, Any]:
        """Paul asks for a voucher at Matériaux de l'Ouest."""
        given = {"supplierId": self.supplier_id, "amount": amount} | given
        return await (by or self.paul).do("requestVoucher", VOUCHER, **given)

    async def delivered(self, amount: str = "123,01") -> tuple[dict[str, Any], str]:
        """A voucher that Paul has presented, and its code."""
        voucher = await self.request(amount)
        code = (await self.paul.do("revealVoucherCode", VOUCHER, id=voucher["id"]))["presentation"]["secretCode"]
        return await self.paul.do("deliverVoucher", VOUCHER, id=voucher["id"]), code

    async def read(self, voucher: dict[str, Any], by: Client | None = None) -> Any:
        """The voucher, as one of them sees it."""
        document = f"query ($id: ID!) {{ node(id: $id) {{ {VOUCHER} }} }}"
        return (await (by or self.paul).ask(document, id=voucher["id"]))["node"]

    async def accounts(self) -> tuple[int, int, int, int]:
        """In cents: what is guaranteed for Paul, what he owes, what is held for the supplier, what is owed to it."""
        paul, supplier = self.world.holders["44001234B"].id, self.world.merchants["MO"].id
        kinds = ((paul, "GUARANTEE"), (paul, "DEBT"), (supplier, "HELD"), (supplier, "MERCHANT"))
        guaranteed, owed, held, merchant = [await self.world.total(owner, kind) for owner, kind in kinds]
        return guaranteed, owed, held, merchant


def kind_is(world: World, **options: Any) -> None:
    """What an operator types to set a kind of vouchers."""
    given = {"code": "BW", "name": "Bon web", "series": "442", "department": "XX"} | options
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not True]
    words += [f"--{name.replace('_', '-')}" for name, value in given.items() if value is True]
    command = [sys.executable, "-m", "escarcelle", "issuer", "voucher-kind", f"--slug={world.slug}", *words]
    subprocess.run(command, env=environment(world.servers.settings), check=True, capture_output=True)


@asynccontextmanager
async def assembled(world: World, running: Running) -> AsyncIterator[Cast]:
    """Everyone, signed in."""
    await world.as_owner("UPDATE issuers SET name = 'Fédération de l''Ouest' WHERE tenant = $1", world.tenant)
    await world.voucher_kind()
    await world.merchant("MO", "Matériaux de l’Ouest", {"C1": "Comptoir de Nantes"})
    await world.merchant("QB", "Quincaillerie Bleue", {"C2": "Comptoir de Rezé"})
    await world.user("agence", Role.ISSUER_AGENT, email=f"agence@{world.slug}.example")
    await world.user("mo", Role.MERCHANT_MANAGER, merchant="MO")
    await world.user("qb", Role.MERCHANT_MANAGER, merchant="QB")
    async with AsyncExitStack() as stack:

        async def client(login: str) -> Client:
            return await stack.enter_async_context(await running.client(world, login))

        agency = await client("agence")
        for reference, name in (("44001234B", "Martin"), ("44005678C", "Durand")):
            holder = await world.holder(reference, name, email=f"{reference}@example.com")
            await world.user(reference, Role.HOLDER, holder=reference)
            member = {"memberSince": "2020-01-01", "duesPaidUntil": "2036-12-31"}
            await agency.do("updateHolder", "... on Holder { id }", id=holder.global_id, **member)
        yield Cast(
            world,
            running,
            agency,
            await client("44001234B"),
            await client("44001234B"),
            await client("44005678C"),
            await client("mo"),
            await client("qb"),
            world.merchants["MO"].global_id,
        )


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast, in a world of its own."""
    async with assembled(world, running) as everyone:
        yield everyone


# ── the member's request ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_V1_the_space_opens_once_the_membership_is_recorded(cast: Cast) -> None:
    holder = await cast.world.holder("44009999D", "Nouvelle")
    await cast.world.user("44009999D", Role.HOLDER, holder="44009999D")
    async with await cast.running.client(cast.world, "44009999D") as newcomer:
        async with cast.world.unchanged():
            refused = await cast.request(by=newcomer)
            assert refused["code"] == "FORBIDDEN"
            assert refused["message"] == "Cet espace s’ouvre dès que votre adhésion est enregistrée."
            for question in (LIST, "{ suppliers { totalCount } }", "{ voucherKinds { code } }"):
                with pytest.raises(Unexpected, match="FORBIDDEN"):
                    await newcomer.ask(question)
        now = datetime.now(PARIS)
        await cast.world.freeze(now)
        today = now.date()
        changes = {"memberSince": today.isoformat(), "duesPaidUntil": today.isoformat()}
        seen = "... on Holder { memberSince duesPaidUntil }"
        assert changes.items() <= (await cast.agency.do("updateHolder", seen, id=holder.global_id, **changes)).items()
        assert (await cast.request(by=newcomer))["status"] == "ISSUED"
        assert (await newcomer.ask(LIST))["vouchers"]["totalCount"] == 1


async def test_V1_a_closed_space_shows_no_voucher_and_what_was_taken_may_still_be_used(cast: Cast) -> None:
    voucher = await cast.request()
    paul = cast.world.holders["44001234B"]
    await cast.world.as_owner("UPDATE holders SET member_since = NULL WHERE id = $1", paul.id)
    try:
        with pytest.raises(Unexpected, match="FORBIDDEN"):
            await cast.paul.ask(LIST)
        assert await cast.read(voucher) is None
        assert (await cast.read(voucher, by=cast.agency))["status"] == "ISSUED"
        revealed = await cast.paul.do("revealVoucherCode", VOUCHER, id=voucher["id"])
        assert revealed["presentation"]["secretCode"]
        assert (await cast.paul.do("deliverVoucher", VOUCHER, id=voucher["id"]))["status"] == "DELIVERED"
    finally:
        await cast.world.as_owner("UPDATE holders SET member_since = '2020-01-01' WHERE id = $1", paul.id)


async def test_V2_V13_V18_a_voucher_on_a_Sunday_night_has_all_that_its_card_shows(cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    voucher = await cast.request("123,01")
    assert (voucher["status"], voucher["statusCode"], voucher["statusLabel"]) == ("ISSUED", 1, "1-EMIS")
    assert voucher["value"]["amount"] == "124.00"
    assert voucher["validUntil"] == "2026-12-22", "30 days, unless the kind says otherwise (AV1)"
    assert voucher["kind"] == {"code": "BW", "name": "Bon web"}
    assert voucher["supplier"] == {"name": "Matériaux de l’Ouest"}
    assert (voucher["holder"]["reference"], voucher["holder"]["name"]) == ("44001234B", "Martin")
    assert (voucher["number"], voucher["presentation"]) == (None, None)
    assert voucher["allowedActions"] == ["REVEAL_CODE"]
    assert voucher["whereToFind"] == "Votre bon est disponible dans votre espace, rubrique « Demande de bons »."
    assert "Fédération de l'Ouest" in voucher["certification"], "V13"
    assert await cast.accounts() == (-124_00, 0, 124_00, 0)


async def test_V3_nothing_reaches_the_supplier_and_it_lists_no_voucher(cast: Cast) -> None:
    voucher = await cast.request()
    rows = await cast.world.as_owner(
        "SELECT topic FROM outbox WHERE tenant = $1 AND topic <> 'live'", cast.world.tenant
    )
    assert rows == []
    with pytest.raises(Unexpected, match="FORBIDDEN"):
        await cast.supplier.ask(LIST)
    assert await cast.read(voucher, by=cast.supplier) is None
    assert (await cast.agency.ask(LIST))["vouchers"]["totalCount"] == 1
    assert (await cast.anna.ask(LIST))["vouchers"]["totalCount"] == 0
    assert await cast.read(voucher, by=cast.anna) is None


async def test_V5_a_supplier_is_chosen_from_the_list(cast: Cast) -> None:
    listed = (await cast.paul.ask("{ suppliers { nodes { id name } } }"))["suppliers"]["nodes"]
    assert [each["name"] for each in listed] == ["Matériaux de l’Ouest", "Quincaillerie Bleue"]
    closed = listed[1]["id"]
    await cast.agency.do("updateMerchant", "... on Merchant { active }", id=closed, active=False)
    assert (await cast.paul.ask("{ suppliers { totalCount } }"))["suppliers"]["totalCount"] == 1
    async with cast.world.unchanged():
        wrong = [{"path": ["input", "supplierId"], "message": "Choisissez un fournisseur de la liste."}]
        for supplier in (closed, cast.world.holders["44001234B"].global_id, f"mrch_{'0' * 32}", "x", ""):
            refused = await cast.request(supplierId=supplier)
            assert (refused["code"], refused["problems"]) == ("INVALID", wrong), supplier
        assert (await cast.request(kindCode="??"))["problems"][0]["path"] == ["input", "kindCode"]
        with pytest.raises(Unexpected, match="supplierId"):
            await cast.paul.do("requestVoucher", VOUCHER, amount="10")


@pytest.mark.parametrize(
    ("typed", "value"), [("123.01", "124.00"), ("124.00", "124.00"), ("0.40", "1.00"), ("1 234,56", "1235.00")]
)
async def test_V6_the_amount_is_rounded_up_to_the_euro(cast: Cast, typed: str, value: str) -> None:
    assert (await cast.request(typed))["value"]["amount"] == value


@pytest.mark.parametrize(("typed", "code"), [("0", "AMOUNT_TOO_LOW"), ("-5", "AMOUNT_TOO_LOW"), ("abc", "INVALID")])
async def test_V6_what_is_no_amount_is_refused(cast: Cast, typed: str, code: str) -> None:
    async with cast.world.unchanged():
        refused = await cast.request(typed)
    assert (refused["code"], refused["problems"][0]["path"]) == (code, ["input", "amount"])


async def test_V6_AV5_without_a_ceiling_all_that_is_guaranteed_is_an_amount(cast: Cast) -> None:
    largest = "9999999999"
    async with cast.world.unchanged():
        refused = await cast.request("9999999999,99")
        assert (refused["code"], refused["problems"][0]["path"]) == ("AMOUNT_TOO_HIGH", ["input", "amount"])
    first = await cast.request("1")
    async with cast.world.unchanged():
        assert (await cast.request(largest))["code"] == "AMOUNT_TOO_HIGH"
    await cast.agency.do("cancelVoucher", VOUCHER, id=first["id"])
    assert (await cast.request(largest))["value"]["amount"] == f"{largest}.00"
    assert (await cast.request("1"))["code"] == "AMOUNT_TOO_HIGH"


async def test_V7_dues_are_checked_on_the_day(cast: Cast) -> None:
    paul = cast.world.holders["44001234B"].global_id
    await cast.world.freeze(SUNDAY_NIGHT)
    await cast.agency.do("updateHolder", "... on Holder { id }", id=paul, duesPaidUntil="2026-11-21")
    async with cast.world.unchanged():
        refused = await cast.request()
        assert refused["code"] == "DUES_UNPAID"
        assert refused["message"] == "Votre cotisation n’est pas à jour : prenez contact avec votre agence."
    await cast.agency.do("updateHolder", "... on Holder { id }", id=paul, duesPaidUntil="2026-11-22")
    assert (await cast.request())["status"] == "ISSUED", "the last day is covered"
    await cast.world.freeze(SUNDAY_NIGHT + timedelta(minutes=20))
    assert (await cast.request())["code"] == "DUES_UNPAID", "at midnight in Paris it is over"


async def test_V8_V9_the_list_is_searched_over_what_it_shows(cast: Cast) -> None:
    first = await cast.request("0,99")
    await cast.request("5")
    delivered, _ = await cast.delivered("7")

    async def found(search: str, **more: Any) -> list[str]:
        nodes = (await cast.paul.ask(LIST, search=search, **more))["vouchers"]["nodes"]
        return [node["value"]["amount"] for node in nodes]

    assert await found("EMIS") == ["5.00", "1.00"]
    assert await found("livré") == ["7.00"]
    assert await found("1,00") == ["1.00"]
    assert await found("bon WEB") == ["7.00", "5.00", "1.00"]
    assert await found(delivered["number"].lower()) == ["7.00"]
    assert await found("Matériaux") == ["7.00", "5.00", "1.00"]
    assert await found("%") == []
    assert await found("", status=["DELIVERED"]) == ["7.00"]
    assert await found("", orderBy="STATUS") == ["1.00", "5.00", "7.00"], "11 comes after 1"
    assert first["statusLabel"] == "1-EMIS"
    english = await cast.running.client(cast.world, "44001234B", language="en")
    async with english:
        nodes = (await english.ask(LIST, search="issued"))["vouchers"]["nodes"]
        assert {node["statusLabel"] for node in nodes} == {"1-ISSUED"}


async def test_V8_what_is_shown_is_found_as_it_is_shown(cast: Cast) -> None:
    await asyncio.to_thread(kind_is, cast.world, name="Bon Matériel")
    await cast.request("1235")
    await cast.request("124")
    shown = "query ($search: String) { vouchers(search: $search) { nodes { value { amount } } } }"
    for language, texts in (
        ("fr", ["1 235", "1 235,00", "1\u202f235,00\u00a0€", "1.235,00 €", "235,00"]),
        ("en", ["€1,235.00", "1,235", "1235.00", "1 235"]),
    ):
        async with await cast.running.client(cast.world, "44001234B", language=language) as paul:
            for typed in texts:
                (found,) = (await paul.ask(shown, search=typed))["vouchers"]["nodes"]
                assert found["value"]["amount"] == "1235.00", typed
            for typed in ("124,00 €", "€124.00", "124"):
                (found,) = (await paul.ask(shown, search=typed))["vouchers"]["nodes"]
                assert found["value"]["amount"] == "124.00", typed
            for every in ("materiaux", "MATÉRIAUX de l’ouest", "bon materiel", "€"):
                assert len((await paul.ask(shown, search=every))["vouchers"]["nodes"]) == 2, every
            for nothing in ("1,24", "12 4,5", "1235 000"):
                assert (await paul.ask(shown, search=nothing))["vouchers"]["nodes"] == [], nothing
    await cast.delivered("7")
    assert len((await cast.paul.ask(shown, search="11-livre"))["vouchers"]["nodes"]) == 1


# ── at the counter ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V10_V11_V12_V14_AV3_the_code_is_drawn_once_for_good(cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    voucher = await cast.request()
    assert (await cast.read(voucher))["presentation"] is None, "nothing is drawn before OK"
    both = await asyncio.gather(
        *(device.do("revealVoucherCode", VOUCHER, id=voucher["id"]) for device in (cast.paul, cast.paul_elsewhere) * 4)
    )
    codes = {each["presentation"]["secretCode"] for each in both}
    assert len(codes) == 1 and re.fullmatch("[0-9]{4}", *codes)
    assert {datetime.fromisoformat(each["presentation"]["revealedAt"]) for each in both} == {SUNDAY_NIGHT}
    assert {(each["status"], each["statusLabel"], each["number"]) for each in both} == {
        ("CODE_REVEALED", "1-EMIS", None)
    }
    await cast.world.freeze(SUNDAY_NIGHT + timedelta(days=2))
    again = await cast.paul.do("revealVoucherCode", VOUCHER, id=voucher["id"])
    assert again["presentation"] == both[0]["presentation"], "the same code, drawn when OK was pressed (AV3)"
    assert again["allowedActions"] == ["REVEAL_CODE", "DELIVER"]
    lines = await cast.world.as_owner(
        "SELECT kind FROM journal WHERE subject_id = $1 ORDER BY sequence", read_global_id(voucher["id"])[2]
    )
    assert [line["kind"] for line in lines] == ["vchr.request", "vchr.reveal"]


async def test_V11_the_code_is_in_no_list_no_row_and_nobody_else_s_view(cast: Cast) -> None:
    voucher, code = await cast.delivered()
    listed = (await cast.paul.ask(LIST))["vouchers"]["nodes"]
    assert [node["presentation"] for node in listed] == [{"secretCode": None}]
    assert (await cast.read(voucher))["presentation"]["secretCode"] == code
    assert (await cast.read(voucher, by=cast.agency))["presentation"]["secretCode"] is None
    # Ten thousand codes are few: were one stored, however hashed, it would not be a secret for long.
    row = (await cast.world.as_owner("SELECT * FROM vouchers WHERE id = $1", read_global_id(voucher["id"])[2]))[0]
    assert code not in {str(value) for value in row.values()}
    lines = await cast.world.as_owner("SELECT detail::text FROM journal WHERE tenant = $1", cast.world.tenant)
    assert not any(f'"{code}"' in line["detail"] for line in lines)


async def test_V15_V16_V17_AV2_the_number_appears_with_the_delivery_once(cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    voucher = await cast.request()
    async with cast.world.unchanged():
        refused = await cast.paul.do("deliverVoucher", VOUCHER, id=voucher["id"])
        assert refused["code"] == "WRONG_STATE"
        assert refused["message"] == "Ce n’est pas encore possible : obtenez d’abord le code secret."
    await cast.paul.do("revealVoucherCode", VOUCHER, id=voucher["id"])
    first = await cast.paul.do("deliverVoucher", VOUCHER, id=voucher["id"])
    assert (first["number"], first["statusCode"]) == ("W2026.XX.442.00000001", 11)
    assert (first["status"], first["statusLabel"]) == ("DELIVERED", "11-livré")
    async with cast.world.unchanged():
        assert await cast.paul.do("deliverVoucher", VOUCHER, id=voucher["id"]) == first
        for verb, client in (("cancelVoucher", cast.agency), ("revealVoucherCode", cast.paul)):
            assert (await client.do(verb, VOUCHER, id=voucher["id"]))["code"] == "WRONG_STATE"
    await cast.world.freeze(SUNDAY_NIGHT + timedelta(days=60))
    next_year, _ = await cast.delivered()
    assert next_year["number"] == "W2027.XX.442.00000001", "a series of its own for each year"


async def test_V16_a_hundred_deliveries_at_once_have_consecutive_numbers(cast: Cast) -> None:
    vouchers = [await cast.request("10") for _ in range(100)]
    await asyncio.gather(*(cast.paul.do("revealVoucherCode", VOUCHER, id=each["id"]) for each in vouchers))
    delivered = await asyncio.gather(
        *(
            (cast.paul, cast.paul_elsewhere)[n % 2].do("deliverVoucher", VOUCHER, id=each["id"])
            for n, each in enumerate(vouchers)
        )
    )
    numbers = sorted(int(each["number"].rsplit(".", 1)[1]) for each in delivered)
    assert numbers == list(range(1, 101))


async def test_V19_a_voucher_is_usable_until_the_end_of_its_last_day(cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    used, unused, revealed = [await cast.request(amount) for amount in ("10", "20", "30")]
    await cast.paul.do("revealVoucherCode", VOUCHER, id=revealed["id"])
    last_day = date.fromisoformat(used["validUntil"])
    end = datetime(last_day.year, last_day.month, last_day.day, tzinfo=PARIS) + timedelta(days=1)
    await cast.world.freeze(end.astimezone(UTC) - timedelta(minutes=1))
    await cast.paul.do("revealVoucherCode", VOUCHER, id=used["id"])
    assert (await cast.paul.do("deliverVoucher", VOUCHER, id=used["id"]))["status"] == "DELIVERED"
    await cast.world.freeze(end.astimezone(UTC))
    for voucher, verb in ((unused, "revealVoucherCode"), (revealed, "deliverVoucher")):
        refused = await cast.paul.do(verb, VOUCHER, id=voucher["id"])
        assert (refused["code"], refused["message"]) == ("TOO_LATE", "Ce bon a expiré.")
        assert (await cast.read(voucher))["statusLabel"] == "9-expiré"
    await cast.world.freeze(None)
    await cast.world.as_owner(
        "UPDATE issuers SET clock_offset = interval '31 days' WHERE tenant = $1", cast.world.tenant
    )
    await cast.world.as_owner(
        "UPDATE deadlines SET claim_at = now(), due_at = now() WHERE tenant = $1", cast.world.tenant
    )
    async with asyncio.timeout(60):
        while (await cast.accounts())[2] != 10_00:  # noqa: ASYNC110 — another process does it
            await asyncio.sleep(0.05)
    assert await cast.accounts() == (-10_00, 0, 10_00, 0), "the delivered one stays guaranteed"
    stored = await cast.world.as_owner("SELECT status FROM vouchers WHERE tenant = $1", cast.world.tenant)
    assert sorted(row["status"] for row in stored) == ["DELIVERED", "EXPIRED", "EXPIRED"]


async def test_V25_number_and_code_stay_readable_for_the_member_alone(cast: Cast) -> None:
    voucher, code = await cast.delivered()
    await cast.supplier.do("recordSupplierInvoice", INVOICE, **_invoice(voucher, code, "100,00"))
    mine = await cast.read(voucher)
    assert (mine["number"], mine["presentation"]["secretCode"]) == (voucher["number"], code)
    seen = await cast.read(voucher, by=cast.agency)
    assert (seen["number"], seen["presentation"]["secretCode"]) == (voucher["number"], None)
    verified = await cast.supplier.do("verifyVoucher", VOUCHER, number=voucher["number"], secretCode=code)
    assert (verified["number"], verified["presentation"]["secretCode"]) == (voucher["number"], None)
    assert verified["holder"] == {"reference": "44001234B", "name": "Martin", "email": None}


# ── the supplier's and the agency's side ──────────────────────────────────────────────────────────────────────────────


def _invoice(voucher: dict[str, Any], code: str, amount: str, number: str = "F-1") -> dict[str, Any]:
    return {"voucherNumber": voucher["number"], "secretCode": code, "invoiceNumber": number, "amount": amount}


def _wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10_000:04d}"


async def test_V20_AV8_number_and_code_belong_together_and_the_fifth_wrong_code_blocks(cast: Cast) -> None:
    voucher, code = await cast.delivered()
    pair = {"number": voucher["number"], "secretCode": code}
    assert (await cast.supplier.do("verifyVoucher", VOUCHER, **pair))["status"] == "DELIVERED"
    assert (await cast.agency.do("verifyVoucher", VOUCHER, **pair))["status"] == "DELIVERED"
    async with cast.world.unchanged():
        for client, given, refusal in (
            (cast.other_supplier, pair, "NOT_FOUND"),
            (cast.supplier, pair | {"number": "W2026.XX.442.99999999"}, "NOT_FOUND"),
            (cast.supplier, pair | {"secretCode": "12"}, "INVALID"),
            (cast.paul, pair, "FORBIDDEN"),
        ):
            assert (await client.do("verifyVoucher", VOUCHER, **given))["code"] == refusal
    wrong = pair | {"secretCode": _wrong(code)}
    for left in (4, 3, 2, 1):
        refused = await cast.supplier.do("verifyVoucher", VOUCHER, **wrong)
        assert (refused["code"], refused["problems"][0]["path"]) == ("BAD_CREDENTIALS", ["input", "secretCode"])
        assert refused["message"] == f"Code secret incorrect. Essais restants : {left}."
    assert (await cast.supplier.do("verifyVoucher", VOUCHER, **pair))["blocked"] is False, (
        "right: the count begins anew"
    )
    for _ in range(5):
        refused = await cast.supplier.do("verifyVoucher", VOUCHER, **wrong)
        assert refused["code"] == "BAD_CREDENTIALS"
    last = "Code secret incorrect. Ce bon est maintenant bloqué : seule l’agence peut le débloquer."
    assert refused["message"] == last
    async with cast.world.unchanged():
        assert (await cast.supplier.do("verifyVoucher", VOUCHER, **pair))["code"] == "ACCOUNT_LOCKED", (
            "the right one too"
        )
        refused = await cast.supplier.do("recordSupplierInvoice", INVOICE, **_invoice(voucher, code, "10"))
        assert refused["code"] == "ACCOUNT_LOCKED"
    mail = await cast.running.mail(f"agence@{cast.world.slug}.example", voucher["number"])
    assert code not in mail["text"].replace(voucher["number"], "") and "Matériaux de l’Ouest" in mail["text"]
    seen = await cast.read(voucher, by=cast.agency)
    assert (seen["blocked"], seen["allowedActions"]) == (True, ["UNBLOCK"])
    for blocked, found in ((True, [voucher["id"]]), (False, [])):
        listed = await cast.agency.ask("query ($b: Boolean) { vouchers(blocked: $b) { nodes { id } } }", b=blocked)
        assert [each["id"] for each in listed["vouchers"]["nodes"]] == found
    assert (await cast.paul.do("unblockVoucher", VOUCHER, id=voucher["id"]))["code"] == "FORBIDDEN"
    assert (await cast.agency.do("unblockVoucher", VOUCHER, id=voucher["id"]))["blocked"] is False
    assert (await cast.supplier.do("verifyVoucher", VOUCHER, **pair))["status"] == "DELIVERED"
    async with cast.world.unchanged():
        assert (await cast.agency.do("unblockVoucher", VOUCHER, id=voucher["id"]))["code"] == "WRONG_STATE"


async def test_V20_number_and_code_are_read_however_they_are_copied_from_the_paper(cast: Cast) -> None:
    voucher, code = await cast.delivered()
    number = voucher["number"]
    for typed in (number.lower(), number.replace(".", " "), number.replace(".", ""), f" {number.replace('.', ' . ')} "):
        pair = {"number": typed, "secretCode": f" {code[:2]} {code[2:]}\u00a0"}
        assert (await cast.supplier.do("verifyVoucher", VOUCHER, **pair))["number"] == number, typed
    for wrong in (number[:-1], f"{number}0", f"X{number}", number.replace("W", "W.W")):
        refused = await cast.supplier.do("verifyVoucher", VOUCHER, number=wrong, secretCode=code)
        assert (refused["code"], refused["problems"][0]["path"]) == ("NOT_FOUND", ["input", "number"]), wrong
    assert (await cast.read(voucher, cast.agency))["blocked"] is False


async def test_V20_of_ten_thousand_guesses_five_are_evaluated(cast: Cast) -> None:
    """By two of the supplier's devices at once, twenty guesses in each document."""
    voucher, code = await cast.delivered()
    guesses = [f"{n:04d}" for n in range(10_000) if f"{n:04d}" != code]
    async with await cast.running.client(cast.world, "mo") as second:
        batches = [guesses[n : n + 20] for n in range(0, len(guesses), 20)]

        async def guess(client: Client, batches: list[list[str]]) -> list[str]:
            answers = []
            for batch in batches:
                fields = " ".join(
                    f'g{n}: verifyVoucher(input: {{number: "{voucher["number"]}", secretCode: "{guessed}"}})'
                    " { __typename ... on Refusal { code } }"
                    for n, guessed in enumerate(batch)
                )
                answers += [each["code"] for each in (await client.ask(f"mutation {{ {fields} }}")).values()]
            return answers

        found = await asyncio.gather(
            guess(cast.supplier, batches[0::4]),
            guess(second, batches[1::4]),
            guess(cast.supplier, batches[2::4]),
            guess(second, batches[3::4]),
        )
    codes = [each for answers in found for each in answers]
    assert (codes.count("BAD_CREDENTIALS"), codes.count("ACCOUNT_LOCKED")) == (5, 9_994)
    lines = await cast.world.as_owner(
        "SELECT count(*) AS n FROM journal WHERE tenant = $1 AND kind IN ('vchr.wrong_code', 'vchr.block')",
        cast.world.tenant,
    )
    assert lines[0]["n"] == 5


async def test_V23_the_federation_pays_the_invoice_and_bills_the_member(cast: Cast) -> None:
    voucher, code = await cast.delivered("123,01")
    assert await cast.accounts() == (-124_00, 0, 124_00, 0)
    given = _invoice(voucher, code, "123,01")
    key = str(uuid4())
    document = (
        "mutation ($input: RecordSupplierInvoiceInput!, $key: ID!) {"
        f" recordSupplierInvoice(input: $input, idempotencyKey: $key) {{ __typename {INVOICE} }} }}"
    )
    first = await cast.supplier.ask(document, input=given, key=key)
    assert first == await cast.supplier.ask(document, input=given, key=key), "the same key has one effect"
    invoice = first["recordSupplierInvoice"]
    assert (invoice["amount"], invoice["excess"], invoice["decision"]) == (
        {"amount": "123.01"},
        {"amount": "0.00"},
        None,
    )
    assert invoice["voucher"]["status"] == "INVOICED"
    assert await cast.accounts() == (0, -123_01, 0, 123_01)
    async with cast.world.unchanged():
        again = await cast.supplier.do("recordSupplierInvoice", INVOICE, **_invoice(voucher, code, "1", "F-2"))
        assert again["code"] == "WRONG_STATE", "one invoice for a voucher"


async def test_V23_an_invoice_is_recorded_once_and_only_for_what_was_presented(cast: Cast) -> None:
    voucher, code = await cast.delivered("50")
    other, other_code = await cast.delivered("60")
    await cast.agency.do("recordSupplierInvoice", INVOICE, **_invoice(voucher, code, "50", "F-7"))
    async with cast.world.unchanged():
        for given, refusal, path in (
            (_invoice(other, other_code, "60", "F-7"), "ALREADY_EXISTS", "invoiceNumber"),
            (_invoice(other, other_code, "0", "F-8"), "AMOUNT_TOO_LOW", "amount"),
            (_invoice(other, other_code, "x", "F-8"), "INVALID", "amount"),
            (_invoice(other, other_code, "60", " "), "INVALID", "invoiceNumber"),
            (_invoice(other, "123", "60", "F-8"), "INVALID", "secretCode"),
            (_invoice({"number": "W"}, other_code, "60", "F-8"), "NOT_FOUND", "voucherNumber"),
        ):
            refused = await cast.supplier.do("recordSupplierInvoice", INVOICE, **given)
            assert (refused["code"], refused["problems"][0]["path"]) == (refusal, ["input", path]), given
        stranger = await cast.other_supplier.do("recordSupplierInvoice", INVOICE, **_invoice(other, other_code, "60"))
        assert stranger["code"] == "NOT_FOUND"
    refused = await cast.supplier.do(
        "recordSupplierInvoice", INVOICE, **_invoice(other, _wrong(other_code), "60", "F-8")
    )
    assert refused["code"] == "BAD_CREDENTIALS"
    invoices = "{ supplierInvoices { nodes { invoiceNumber voucher { number } } } }"
    seen = [{"invoiceNumber": "F-7", "voucher": {"number": voucher["number"]}}]
    assert (await cast.supplier.ask(invoices))["supplierInvoices"]["nodes"] == seen
    assert (await cast.agency.ask(invoices))["supplierInvoices"]["nodes"] == seen
    assert (await cast.other_supplier.ask(invoices))["supplierInvoices"]["nodes"] == []


async def test_P4_V20_a_supplier_s_staff_without_a_point_of_sale_does_nothing_in_its_name(cast: Cast) -> None:
    voucher, code = await cast.delivered("50")
    pair = {"number": voucher["number"], "secretCode": code}
    invoices = "{ supplierInvoices { nodes { id } } }"
    await cast.world.user("sans", Role.MERCHANT_STAFF, merchant="MO")
    await cast.world.user("caisse", Role.MERCHANT_STAFF, merchant="MO", grants={"C1": frozenset({Right.EXPORT})})
    async with (
        await cast.running.client(cast.world, "sans") as nowhere,
        await cast.running.client(cast.world, "caisse") as counter,
    ):
        async with cast.world.unchanged():
            assert (await nowhere.do("verifyVoucher", VOUCHER, **pair))["code"] == "FORBIDDEN"
            wrong = pair | {"secretCode": _wrong(code)}
            assert (await nowhere.do("verifyVoucher", VOUCHER, **wrong))["code"] == "FORBIDDEN", "and no try is counted"
            refused = await nowhere.do("recordSupplierInvoice", INVOICE, **_invoice(voucher, code, "50"))
            assert refused["code"] == "FORBIDDEN"
        assert (await counter.do("verifyVoucher", VOUCHER, **pair))["status"] == "DELIVERED"
        invoice = await counter.do("recordSupplierInvoice", INVOICE, **_invoice(voucher, code, "50"))
        assert len((await counter.ask(invoices))["supplierInvoices"]["nodes"]) == 1
        with pytest.raises(Unexpected, match="FORBIDDEN"):
            await nowhere.ask(invoices)
        found = [
            await each.ask("query ($id: ID!) { node(id: $id) { id } }", id=invoice["id"]) for each in (nowhere, counter)
        ]
        assert found == [{"node": None}, {"node": {"id": invoice["id"]}}]


async def test_AV6_what_exceeds_the_value_waits_for_a_person_s_decision(cast: Cast) -> None:
    made = []
    for number in ("F-1", "F-2"):
        voucher, code = await cast.delivered("100")
        made.append(
            await cast.supplier.do("recordSupplierInvoice", INVOICE, **_invoice(voucher, code, "130,50", number))
        )
    assert [each["excess"]["amount"] for each in made] == ["30.50", "30.50"]
    assert await cast.accounts() == (0, -200_00, 0, 200_00), "paid up to the value"
    excesses = "{ supplierInvoices(withExcess: true) { nodes { invoiceNumber decision } } }"
    assert len((await cast.agency.ask(excesses))["supplierInvoices"]["nodes"]) == 2
    async with cast.world.unchanged():
        decide = {"supplierInvoiceId": made[0]["id"], "decision": "PAID"}
        assert (await cast.supplier.do("decideExcess", INVOICE, **decide))["code"] == "FORBIDDEN"
    paid = await cast.agency.do("decideExcess", INVOICE, supplierInvoiceId=made[0]["id"], decision="PAID")
    refused = await cast.agency.do("decideExcess", INVOICE, supplierInvoiceId=made[1]["id"], decision="REFUSED")
    assert (paid["decision"], refused["decision"]) == ("PAID", "REFUSED")
    assert await cast.accounts() == (0, -230_50, 0, 230_50)
    async with cast.world.unchanged():
        again = await cast.agency.do("decideExcess", INVOICE, supplierInvoiceId=made[0]["id"], decision="REFUSED")
        assert again["code"] == "WRONG_STATE"


async def test_AV4_the_agency_takes_back_only_what_nobody_has_used(cast: Cast) -> None:
    voucher = await cast.request("40")
    async with cast.world.unchanged():
        for client, refusal in ((cast.paul, "FORBIDDEN"), (cast.supplier, "FORBIDDEN"), (cast.anna, "FORBIDDEN")):
            assert (await client.do("cancelVoucher", VOUCHER, id=voucher["id"]))["code"] == refusal
        assert (await cast.anna.do("revealVoucherCode", VOUCHER, id=voucher["id"]))["code"] == "NOT_FOUND"
    cancelled = await cast.agency.do("cancelVoucher", VOUCHER, id=voucher["id"])
    assert (cancelled["status"], cancelled["statusLabel"]) == ("CANCELLED", "8-annulé")
    assert await cast.accounts() == (0, 0, 0, 0)
    revealed = await cast.request("40")
    await cast.paul.do("revealVoucherCode", VOUCHER, id=revealed["id"])
    async with cast.world.unchanged():
        assert (await cast.agency.do("cancelVoucher", VOUCHER, id=revealed["id"]))["code"] == "WRONG_STATE"


async def test_AV1_AV5_AV7_a_kind_has_its_own_days_ceilings_and_numbers(cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    options = {"maximum_value": "100", "maximum_outstanding": "150", "validity_days": 90, "ends_with_year": True}
    await asyncio.to_thread(kind_is, cast.world, **options, series="077", department="LA")
    async with cast.world.unchanged():
        refused = await cast.request("100,01")
        assert (refused["code"], refused["message"]) == ("AMOUNT_TOO_HIGH", "Un bon vaut 100,00\u00a0€ au plus.")
    first = await cast.request("100")
    assert first["validUntil"] == "2026-12-31"
    async with cast.world.unchanged():
        refused = await cast.request("50,01")
        assert refused["code"] == "AMOUNT_TOO_HIGH"
        assert refused["message"] == "Vos bons en cours s’élèvent à 100,00\u00a0€, pour 150,00\u00a0€ au plus."
    assert (await cast.request("50"))["status"] == "ISSUED"
    await cast.paul.do("revealVoucherCode", VOUCHER, id=first["id"])
    assert (await cast.paul.do("deliverVoucher", VOUCHER, id=first["id"]))["number"] == "W2026.LA.077.00000001"
    assert (await cast.request("1"))["code"] == "AMOUNT_TOO_HIGH", "delivered, it is still guaranteed"
    both = await asyncio.gather(cast.request("100", by=cast.anna), cast.request("60", by=cast.anna))
    assert sorted(each["__typename"] for each in both) == ["Refusal", "Voucher"], "one after the other"
