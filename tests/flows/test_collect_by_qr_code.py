"""Flow A: the merchant collects at once, by QR code. Through the API, in the manual's words."""

import base64
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np
import pytest

from domain import payments
from domain.access import Actor
from domain.work import perform
from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import next_of
from tests.flows.cast import OFFER, REQUEST, Cast, issuer_set, set_rules, token_of

pytestmark = pytest.mark.anyio

LIVE = f"subscription ($id: ID!) {{ paymentRequest(id: $id) {{ {REQUEST} }} }}"
LIVE_OFFER = f"subscription ($token: String!) {{ paymentOffer(token: $token) {{ {OFFER} }} }}"


async def test_P23_P24_asked_40_pays_30_and_10_remain_to_settle_by_other_means(cast: Cast) -> None:
    request = await cast.ask("40,00", basketNumber="REF1")
    assert request["status"] == "AWAITING_PAYMENT"
    assert request["statusLabel"] == "En attente de paiement client"
    assert request["typeLabel"] == "Paiement immédiat"
    assert request["flow"] == "IMMEDIATE"
    assert request["amountRequested"] == {"amount": "40.00", "formatted": "40,00\u00a0€"}
    assert [request[name] for name in ("amountPaid", "amountValidated", "amountReceived", "amountRemaining")] == [
        None
    ] * 4
    assert sorted(request["allowedActions"]) == ["CANCEL", "CHANGE_COLLECTION", "PRINT"]

    paid = await cast.pay(request, "30,00")
    assert (paid["status"], paid["amountPaid"], paid["allowedActions"]) == ("VALIDATED", {"amount": "30.00"}, [])
    assert (paid["merchantName"], paid["pointOfSaleName"]) == (
        "Canoë Kayak Club Orléans",
        "Canoë Kayak Club – Saint-Jean-le-Blanc",
    )

    now = await cast.read(request)
    assert (now["status"], now["statusLabel"]) == ("VALIDATED", "Validé")
    assert [now[name] for name in ("amountPaid", "amountValidated", "amountReceived")] == [{"amount": "30.00"}] * 3
    assert now["amountRemaining"] == {"amount": "10.00"}
    assert now["qrCode"] is None
    assert now["allowedActions"] == []
    assert now["paidAt"] == now["lastActionAt"] > now["createdAt"]
    assert await cast.world.wallet("ines") == 70_00
    assert await cast.world.total(cast.world.merchants["708900"].id, "MERCHANT") == 30_00


async def test_P21_the_till_sees_the_payment_within_a_second_without_asking(cast: Cast) -> None:
    took = []
    for number in ("un", "deux", "trois"):
        request = await cast.ask(basketNumber=number)
        async with (
            cast.till.subscribe(LIVE, id=request["id"]) as till,
            cast.ines.subscribe(LIVE_OFFER, token=token_of(request)) as phone,
        ):
            assert (await next_of(till, 30, "till"))["paymentRequest"] == await cast.read(request)
            assert (await next_of(phone, 30, "phone"))["paymentOffer"]["status"] == "AWAITING_PAYMENT"
            pressed = time.monotonic()
            await cast.pay(request, "30,00")
            seen = (await next_of(till, 30, "till"))["paymentRequest"]
            assert (seen["status"], seen["amountPaid"], seen["amountRemaining"]) == (
                "VALIDATED",
                {"amount": "30.00"},
                {"amount": "10.00"},
            )
            assert (await next_of(phone, 30, "phone"))["paymentOffer"]["status"] == "VALIDATED"
            took.append(time.monotonic() - pressed)
            for events in (till, phone):
                with pytest.raises(Unexpected, match="the subscription has ended"):
                    await next_of(events, 30, "the end")
    # A machine that is busy with something else may hold one of them up.
    assert min(took) < 1


async def test_P21_a_till_that_comes_back_is_told_the_state_first(cast: Cast) -> None:
    request = await cast.ask()
    await cast.pay(request)
    async with cast.till.subscribe(LIVE, id=request["id"]) as events:
        assert (await next_of(events, 30, "till"))["paymentRequest"]["status"] == "VALIDATED"


@pytest.mark.parametrize("whose", ["other_till", "stranger", "ines"])
async def test_P3_a_subscription_is_for_those_who_see_the_request(cast: Cast, whose: str) -> None:
    request = await cast.ask()
    client: Client = getattr(cast, whose)
    with pytest.raises(Unexpected, match=r"NOT_FOUND|FORBIDDEN"):
        async with client.subscribe(LIVE, id=request["id"]) as events:
            await next_of(events, 30, "an event")


@pytest.mark.parametrize(
    ("amount", "code", "message"),
    [
        ("19.99", "AMOUNT_TOO_LOW", "Le montant minimum est de 20,00\u00a0€."),
        ("0", "AMOUNT_TOO_LOW", "Le montant minimum est de 20,00\u00a0€."),
        ("-5", "AMOUNT_TOO_LOW", "Le montant minimum est de 20,00\u00a0€."),
        ("abc", "INVALID", None),
        ("", "INVALID", None),
        ("19.999", "INVALID", None),
        ("1e3", "INVALID", None),
        ("99999999999999", "AMOUNT_TOO_HIGH", None),
    ],
)
async def test_P14_less_than_20_euros_or_no_amount_at_all_is_refused(
    cast: Cast, amount: str, code: str, message: str | None
) -> None:
    async with cast.world.unchanged():
        refused = await cast.ask(amount)
    assert (refused["__typename"], refused["code"]) == ("Refusal", code)
    assert [problem["path"] for problem in refused["problems"]] == [["input", "amount"]]
    assert message is None or refused["message"] == refused["problems"][0]["message"] == message


@pytest.mark.parametrize("amount", ["20,00", "20.00", "20", " 20,00 € "])
async def test_P14_20_euros_with_comma_or_point(cast: Cast, amount: str) -> None:
    assert (await cast.ask(amount))["amountRequested"]["amount"] == "20.00"


async def test_P14_the_refusal_is_in_the_language_of_the_caller(cast: Cast) -> None:
    async with await cast.running.client(cast.world, "p001", language="en") as english:
        refused = await cast.ask("19.99", till=english)
    assert refused["message"] == "The minimum amount is €20.00."


async def test_P14_the_minimum_is_the_issuer_s(cast: Cast) -> None:
    await cast.world.as_owner("UPDATE issuers SET minimum_amount = 500 WHERE tenant = $1", cast.world.tenant)
    assert (await cast.ask("5,00"))["status"] == "AWAITING_PAYMENT"
    assert (await cast.ask("4,99"))["code"] == "AMOUNT_TOO_LOW"


async def _suggested(cast: Cast) -> str:
    data = await cast.till.ask(
        "query ($id: ID!) { suggestedBasketNumber(pointOfSaleId: $id) }", id=cast.world.places["P001"].global_id
    )
    return str(data["suggestedBasketNumber"])


async def test_P15_H2_the_suggested_basket_number_counts_the_requests_of_the_day(cast: Cast) -> None:
    await cast.world.freeze(datetime(2020, 6, 24, 9, 0, tzinfo=UTC))
    for counter in range(1, 11):
        assert await _suggested(cast) == f"REF20200624{counter}"
        assert (await cast.ask(basketNumber=await _suggested(cast)))["status"] == "AWAITING_PAYMENT"
    assert await _suggested(cast) == "REF2020062411"
    await cast.world.freeze(datetime(2020, 6, 24, 22, 0, tzinfo=UTC))
    assert await _suggested(cast) == "REF202006251", "midnight in Paris has passed"


async def test_P15_a_basket_number_is_mandatory(cast: Cast) -> None:
    async with cast.world.unchanged():
        refused = await cast.ask(basketNumber="  ")
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "basketNumber"])


async def test_AP4_a_basket_number_in_use_is_refused_and_the_next_is_proposed(cast: Cast) -> None:
    await cast.world.freeze(datetime(2026, 11, 21, 12, tzinfo=UTC))
    number = await _suggested(cast)
    first = await cast.ask(basketNumber=number)
    following = await _suggested(cast)
    async with cast.world.unchanged():
        refused = await cast.ask(basketNumber=number)
    assert (refused["code"], refused["problems"][0]["path"]) == ("ALREADY_EXISTS", ["input", "basketNumber"])
    assert following in refused["message"]
    assert following != number

    await cast.till.do("cancelPaymentRequest", REQUEST, id=first["id"])
    assert (await cast.ask(basketNumber=number))["status"] == "AWAITING_PAYMENT", "free again after a cancellation"
    elsewhere = cast.world.places["P002"].global_id
    assert (await cast.ask(till=cast.other_till, basketNumber=number, pointOfSaleId=elsewhere))[
        "status"
    ] == "AWAITING_PAYMENT"


async def test_AP4_a_number_held_by_an_expired_request_is_free_before_the_sweep(cast: Cast) -> None:
    morning = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
    await cast.world.freeze(morning)
    first = await cast.ask(basketNumber="REF1")
    await cast.world.freeze(morning + timedelta(minutes=15))
    second = await cast.ask(basketNumber="REF1")
    assert second["status"] == "AWAITING_PAYMENT"
    assert second["id"] != first["id"]
    assert (await cast.read(first))["status"] == "EXPIRED"


async def test_P16_the_identifier_is_mandatory_when_it_is_chosen(cast: Cast) -> None:
    async with cast.world.unchanged():
        refused = await cast.ask(customerIdentifier=" ")
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "customerIdentifier"])
    asked = await cast.ask(customerIdentifier="ines")
    assert (asked["collection"], asked["customerIdentifier"], asked["qrCode"]) == ("IDENTIFIER", "ines", None)
    assert (await cast.ask(basketNumber="qr"))["collection"] == "QR_CODE"


async def test_P18_label_reference_and_seller_are_kept_and_found(cast: Cast) -> None:
    optional: dict[str, Any] = {"label": "Descente de Loire", "customerReference": "C-42", "sellerIdentifier": "jeanne"}
    request = await cast.ask(**optional)
    await cast.ask(basketNumber="autre")
    assert {name: request[name] for name in optional} == optional
    for words in ("loire", "c-42", "JEANNE", request["transactionNumber"]):
        found = await _list(cast.till, filter={"search": words})
        assert [node["id"] for node in found["nodes"]] == [request["id"]], words


async def test_P20_the_qr_code_is_an_opaque_token_of_its_own_that_a_telephone_reads(cast: Cast) -> None:
    request, other = await cast.ask(basketNumber="1"), await cast.ask(basketNumber="2")
    url = request["qrCode"]["url"]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(request["qrCode"]["pngBase64"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    read, *_ = cv2.QRCodeDetectorAruco().detectAndDecode(picture)
    assert read == url
    assert url != other["qrCode"]["url"]
    assert "4000" not in url
    assert request["qrCode"]["svg"].startswith("<svg")


@pytest.mark.parametrize("token", ["", "x", "A" * 27, "\u00e9" * 27, "AAAAAQ"])
async def test_P20_a_token_that_nothing_bears_is_not_found(cast: Cast, token: str) -> None:
    offer = await cast.ines.ask(f"query ($token: String!) {{ paymentOffer(token: $token) {{ {OFFER} }} }}", token=token)
    assert offer["paymentOffer"] is None
    async with cast.world.unchanged():
        assert (await cast.pay(token))["code"] == "NOT_FOUND"


async def test_P20_an_altered_token_is_not_found(cast: Cast) -> None:
    token = token_of(await cast.ask())
    for at in (0, 3, 10, len(token) - 2):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        async with cast.world.unchanged():
            assert (await cast.pay(altered))["code"] == "NOT_FOUND", at


async def test_P20_a_second_scan_after_the_payment_says_already_paid(cast: Cast) -> None:
    request = await cast.ask()
    await cast.pay(request)
    async with cast.world.unchanged():
        refused = await cast.pay(request, by=cast.eric)
    assert (refused["code"], refused["message"]) == ("WRONG_STATE", "Cette demande est déjà payée.")


async def test_P20_the_offer_can_be_read_before_signing_in_but_not_paid(cast: Cast) -> None:
    request = await cast.ask()
    async with Client(cast.running.url) as passer_by:
        data = await passer_by.ask(
            f"query ($token: String!) {{ paymentOffer(token: $token) {{ {OFFER} }} }}", token=token_of(request)
        )
        assert data["paymentOffer"]["amount"] == {"amount": "40.00"}
        async with cast.world.unchanged():
            with pytest.raises(Unexpected, match="UNAUTHENTICATED"):
                await cast.pay(request, by=passer_by)
        page = await passer_by.get(f"/p/{token_of(request)}")
    assert page.status_code == 200
    assert "40,00" in page.text
    assert "Canoë Kayak Club Orléans" in page.text
    way_on = f'href="/offers/{token_of(request)}"'
    assert way_on in page.text
    await cast.pay(request)
    async with Client(cast.running.url) as passer_by:
        assert way_on not in (await passer_by.get(f"/p/{token_of(request)}")).text


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("0", "INVALID"),
        ("-5", "INVALID"),
        ("abc", "INVALID"),
        ("40,01", "AMOUNT_TOO_HIGH"),
        ("1000000", "AMOUNT_TOO_HIGH"),
    ],
)
async def test_P23_the_customer_pays_something_and_no_more_than_asked(cast: Cast, amount: str, code: str) -> None:
    request = await cast.ask()
    async with cast.world.unchanged():
        refused = await cast.pay(request, amount)
    assert (refused["code"], refused["problems"][0]["path"]) == (code, ["input", "amount"])


async def test_nobody_else_is_told_what_a_customer_has_paid(cast: Cast) -> None:
    request = await cast.ask(validationDays=2, customerIdentifier="ines")
    (offer,) = (await cast.ines.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"]
    await cast.pay(offer["token"], "30,00")
    question = f"query ($token: String!) {{ paymentOffer(token: $token) {{ {OFFER} }} }}"

    async def told(client: Client) -> list[Any]:
        seen = (await client.ask(question, token=offer["token"]))["paymentOffer"]
        return [seen["status"], seen["amountPaid"]]

    async with Client(cast.running.url) as passer_by:
        for expected, page in (("TO_VALIDATE", "déjà payée"), ("CANCELLED", "Annulé")):
            assert await told(cast.ines) == [expected, {"amount": "30.00"}]
            for other in (cast.eric, cast.till, passer_by):
                assert await told(other) == [expected, None]
            async with cast.eric.subscribe(LIVE_OFFER, token=offer["token"]) as live:
                assert (await next_of(live, 30, "phone"))["paymentOffer"]["amountPaid"] is None
            shown = (await passer_by.get(f"/p/{offer['token']}")).text
            assert page in shown
            assert "30,00" not in shown
            if expected == "TO_VALIDATE":
                await cast.till.do("cancelPaymentRequest", "... on PaymentRequest { status }", id=request["id"])


async def test_AP3_the_minimum_holds_for_the_request_not_for_the_payment(cast: Cast) -> None:
    assert (await cast.pay(await cast.ask("25,00"), "0,01"))["amountPaid"] == {"amount": "0.01"}


async def test_a_wallet_never_goes_below_zero(cast: Cast) -> None:
    request = await cast.ask()
    async with cast.world.unchanged():
        refused = await cast.pay(request, by=cast.eric)
    assert (refused["code"], refused["message"]) == ("INSUFFICIENT_FUNDS", "Votre solde est de 25,00\u00a0€.")
    assert (await cast.pay(request, "25,00", by=cast.eric))["status"] == "VALIDATED"
    assert await cast.world.wallet("eric") == 0


async def test_P28_a_cancelled_request_can_not_be_paid(cast: Cast) -> None:
    request = await cast.ask()
    cancelled = await cast.till.do("cancelPaymentRequest", REQUEST, id=request["id"])
    assert (cancelled["status"], cancelled["statusLabel"]) == ("CANCELLED", "Annulé")
    assert (cancelled["allowedActions"], cancelled["qrCode"], cancelled["amountReceived"]) == ([], None, None)
    async with cast.world.unchanged():
        assert (await cast.pay(request))["code"] == "WRONG_STATE"
        assert (await cast.till.do("cancelPaymentRequest", REQUEST, id=request["id"]))["code"] == "WRONG_STATE"


async def test_AP6_a_validated_request_is_final(cast: Cast) -> None:
    request = await cast.ask()
    await cast.pay(request)
    async with cast.world.unchanged():
        assert (await cast.till.do("cancelPaymentRequest", REQUEST, id=request["id"]))["code"] == "WRONG_STATE"


async def test_AP5_an_unpaid_immediate_request_expires_after_the_issuer_s_minutes(cast: Cast) -> None:
    asked_at = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    await cast.world.freeze(asked_at)
    request = await cast.ask()
    assert request["paymentDeadline"] == "2026-03-02T10:15:00+00:00"

    await cast.world.freeze(asked_at + timedelta(minutes=15) - timedelta(microseconds=1))
    assert (await cast.read(request))["status"] == "AWAITING_PAYMENT"
    await cast.world.freeze(asked_at + timedelta(minutes=15))
    late = await cast.read(request)
    assert (late["status"], late["allowedActions"], late["qrCode"]) == ("EXPIRED", [], None)
    async with cast.world.unchanged():
        refused = await cast.pay(request)
    assert (refused["code"], refused["message"]) == ("TOO_LATE", "Cette demande de paiement a expiré.")

    system = Actor(cast.world.tenant)
    request_id = (await cast.world.as_owner("SELECT id FROM payment_requests WHERE tenant = $1", cast.world.tenant))[0][
        0
    ]
    await perform(cast.world.database, system, payments.expire, request_id)
    assert (await cast.read(request))["status"] == "EXPIRED"
    assert (await cast.pay(request))["code"] == "TOO_LATE"


async def test_AP5_the_deadline_fires_by_itself_and_the_till_is_told(cast: Cast) -> None:
    request = await cast.ask()
    async with cast.till.subscribe(LIVE, id=request["id"]) as events:
        await next_of(events, 30, "till")
        # A sandbox's clock moves on: the offset grows, and what is pending is due so much sooner.
        await cast.world.as_owner(
            "UPDATE issuers SET clock_offset = interval '16 minutes' WHERE tenant = $1", cast.world.tenant
        )
        await cast.world.as_owner(
            "UPDATE deadlines SET due_at = due_at - interval '16 minutes', claim_at = claim_at - interval '16 minutes'"
            " WHERE tenant = $1",
            cast.world.tenant,
        )
        assert (await next_of(events, 30, "till"))["paymentRequest"]["status"] == "EXPIRED"


async def test_P29_the_merchant_is_mailed_what_the_customer_paid(cast: Cast) -> None:
    paid_at = datetime(2020, 6, 24, 9, 59, 35, tzinfo=UTC)
    await cast.world.freeze(paid_at)
    request = await cast.ask("50,00")
    await cast.pay(request)
    mail = await cast.running.mail(f"p001@{cast.world.slug}.example", request["transactionNumber"])
    assert "Paiement reçu : 50,00" in mail["subject"]
    assert "24/06/2020 à 11:59:35" in mail["text"]
    assert "Montant réglé : 50,00\u00a0€" in mail["text"]
    assert "ines" in mail["text"]
    assert "/payments/" + request["id"] in mail["text"]
    assert request["transactionNumber"] in mail["html"]


async def test_P29_the_mail_goes_where_the_merchant_wants_to_be_told(cast: Cast) -> None:
    to = f"caisse@{cast.world.slug}.example"
    request = await cast.ask(notifyEmail=to)
    await cast.pay(request, "30,00")
    mail = await cast.running.mail(to, request["transactionNumber"])
    assert "10,00" in mail["text"], "what remains to settle by other means"
    assert await cast.running.mails(f"p001@{cast.world.slug}.example") == []


@pytest.mark.parametrize("address", ["pas une adresse", "a@", "@b.fr", "a@b@c.fr", "a\r\nBcc: x@example.com"])
async def test_P13_an_address_that_can_not_be_one_is_refused(cast: Cast, address: str) -> None:
    async with cast.world.unchanged():
        refused = await cast.ask(notifyEmail=address)
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "notifyEmail"])


async def test_the_same_key_has_one_effect_and_the_same_answer(cast: Cast) -> None:
    first = await cast.ask(idempotencyKey="demande-1")
    async with cast.world.unchanged():
        assert await cast.ask(idempotencyKey="demande-1") == first
    paid = await cast.pay(first, "30,00", idempotencyKey="paiement-1")
    async with cast.world.unchanged():
        assert await cast.pay(first, "30,00", idempotencyKey="paiement-1") == paid
        reused = await cast.pay(first, "10,00", idempotencyKey="paiement-1")
    assert reused["code"] == "IDEMPOTENCY_KEY_REUSED"
    again = await cast.ask(idempotencyKey="demande-1")
    assert (again["id"], again["status"]) == (first["id"], "VALIDATED"), "the answer is read again, as it is now"
    assert (await cast.pay(first, "30,00", idempotencyKey="paiement-1", by=cast.eric))["code"] == "WRONG_STATE"


async def _list(client: Client, **variables: Any) -> dict[str, Any]:
    data = await client.ask(
        "query ($pointOfSaleId: ID, $filter: PaymentRequestFilter, $first: Int, $after: String, $last: Int,"
        " $before: String) { paymentRequests(pointOfSaleId: $pointOfSaleId, filter: $filter, first: $first,"
        " after: $after, last: $last, before: $before) { nodes { id basketNumber status } edges { cursor }"
        " pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount"
        " counters { toValidate awaitingPayment } } }",
        **variables,
    )
    found: dict[str, Any] = data["paymentRequests"]
    return found


async def test_P7_H9_the_list_with_its_counters_newest_action_first(cast: Cast) -> None:
    requests = [await cast.ask(basketNumber=f"panier {n}") for n in range(5)]
    await cast.pay(requests[1], "20,00")
    found = await _list(cast.till)
    assert [node["basketNumber"] for node in found["nodes"]] == [f"panier {n}" for n in (1, 4, 3, 2, 0)]
    assert (found["totalCount"], found["counters"]) == (5, {"toValidate": 0, "awaitingPayment": 4})
    validated = await _list(cast.till, filter={"status": ["VALIDATED"]})
    assert [node["basketNumber"] for node in validated["nodes"]] == ["panier 1"]
    assert (validated["totalCount"], validated["counters"]["awaitingPayment"]) == (1, 4)


async def test_the_list_pages_both_ways_and_stays_where_it_is_while_rows_come_in(cast: Cast) -> None:
    for n in range(5):
        await cast.ask(basketNumber=f"{n}")
    first = await _list(cast.till, first=2)
    assert [node["basketNumber"] for node in first["nodes"]] == ["4", "3"]
    assert (first["pageInfo"]["hasNextPage"], first["pageInfo"]["hasPreviousPage"]) == (True, False)
    await cast.ask(basketNumber="new")
    second = await _list(cast.till, first=2, after=first["pageInfo"]["endCursor"])
    assert [node["basketNumber"] for node in second["nodes"]] == ["2", "1"]
    back = await _list(cast.till, last=2, before=second["pageInfo"]["startCursor"])
    assert [node["basketNumber"] for node in back["nodes"]] == ["4", "3"]
    assert back["pageInfo"]["hasPreviousPage"] is True
    last = await _list(cast.till, first=50, after=second["pageInfo"]["endCursor"])
    assert ([node["basketNumber"] for node in last["nodes"]], last["pageInfo"]["hasNextPage"]) == (["0"], False)
    for wrong in ({"first": -1}, {"after": "not a cursor"}, {"after": "W10"}, {"after": "\u00e9"}):
        with pytest.raises(Unexpected, match="BAD_USER_INPUT"):
            await _list(cast.till, **wrong)


async def test_P3_each_sees_its_own_points_of_sale_only(cast: Cast) -> None:
    here = await cast.ask(basketNumber="P001")
    elsewhere = cast.world.places["P002"].global_id
    there = await cast.ask(till=cast.other_till, basketNumber="P002", pointOfSaleId=elsewhere)
    seen = {
        name: [node["basketNumber"] for node in (await _list(client))["nodes"]]
        for name, client in vars(cast).items()
        if name in ("till", "other_till", "signatory", "stranger", "agent")
    }
    assert seen == {
        "till": ["P001"],
        "other_till": ["P002"],
        "signatory": ["P002", "P001"],
        "stranger": [],
        "agent": ["P002", "P001"],
    }
    assert await cast.read(there) is None
    assert await cast.read(here, cast.stranger) is None
    async with cast.world.unchanged():
        for client in (cast.other_till, cast.stranger):
            assert (await client.do("cancelPaymentRequest", REQUEST, id=here["id"]))["code"] == "NOT_FOUND"
        assert (await cast.ask(basketNumber="x", pointOfSaleId=elsewhere))["code"] == "NOT_FOUND"
        assert (await cast.ines.do("cancelPaymentRequest", REQUEST, id=here["id"]))["code"] == "FORBIDDEN"
    with pytest.raises(Unexpected, match="FORBIDDEN"):
        await _list(cast.ines)


async def test_the_history_of_a_request_tells_who_did_what(cast: Cast) -> None:
    request = await cast.ask()
    await cast.pay(request, "30,00")
    data = await cast.till.ask(
        "query ($id: ID!) { node(id: $id) { ... on PaymentRequest { history { totalCount nodes { id kind at"
        " amount { amount } by { login } subject { id } pointOfSale { code } holder { reference } } } } } }",
        id=request["id"],
    )
    paid, created = data["node"]["history"]["nodes"]
    assert (paid["kind"], paid["amount"], paid["subject"]["id"]) == ("preq.pay", {"amount": "30.00"}, request["id"])
    assert (paid["by"], paid["holder"]) == (None, None), "a merchant is not told who its customer is"
    assert (created["kind"], created["by"], created["pointOfSale"]) == (
        "preq.create",
        {"login": "p001"},
        {"code": "P001"},
    )
    node = "query ($id: ID!) { node(id: $id) { id __typename } }"
    assert (await cast.till.ask(node, id=paid["id"]))["node"] == {"id": paid["id"], "__typename": "JournalEntry"}
    assert (await cast.stranger.ask(node, id=paid["id"]))["node"] is None


async def test_the_issuer_credits_a_wallet(cast: Cast) -> None:
    fields = "... on Holder { reference wallet { amount } }"
    ines = cast.world.holders["ines"].global_id
    credited = await cast.agent.do("creditHolder", fields, holderId=ines, amount="12,50", reason="aide")
    assert (credited["reference"], credited["wallet"]) == ("ines", {"amount": "112.50"})
    async with cast.world.unchanged():
        for amount, code in (
            ("0", "AMOUNT_TOO_LOW"),
            ("-1", "AMOUNT_TOO_LOW"),
            ("x", "INVALID"),
            ("10000,01", "AMOUNT_TOO_HIGH"),
        ):
            refused = await cast.agent.do("creditHolder", fields, holderId=ines, amount=amount, reason="aide")
            assert (refused["code"], refused["problems"][0]["path"]) == (code, ["input", "amount"])
        assert (await cast.till.do("creditHolder", fields, holderId=ines, amount="1", reason="x"))[
            "code"
        ] == "FORBIDDEN"
        assert (await cast.ines.do("creditHolder", fields, holderId=ines, amount="1", reason="x"))[
            "code"
        ] == "FORBIDDEN"


async def test_P14_AP2_AP5_AP7_an_operator_sets_the_issuer_s_rules(cast: Cast) -> None:
    rules = ("--minimum-amount", "5,50", "--immediate-minutes", "60", "--maximum-validation-days", "2")
    await set_rules(cast.world, *rules)
    assert (await cast.ask("5,49"))["code"] == "AMOUNT_TOO_LOW"
    request = await cast.ask("5,50")
    waits = datetime.fromisoformat(request["paymentDeadline"]) - datetime.fromisoformat(request["createdAt"])
    assert waits == timedelta(minutes=60)
    refused = await cast.ask(basketNumber="x", validationDays=3, customerIdentifier="ines")
    assert refused["problems"][0]["path"] == ["input", "validationDays"]
    for slug, *wrong in (
        (cast.world.slug,),
        (cast.world.slug, "--minimum-amount", "0"),
        (cast.world.slug, "--warning-hours", "20-8"),
        (cast.world.slug, "--warning-hours", "8"),
        (cast.world.slug, "--warning-hours", "8-25"),
        ("nowhere", *rules),
    ):
        assert (await issuer_set(cast.world, slug, *wrong)).returncode == 1, wrong


async def test_a_merchant_that_is_not_active_asks_for_nothing_new(cast: Cast) -> None:
    merchant = cast.world.merchants["708900"].global_id
    asked = await cast.ask("20,00")
    await cast.agent.do("updateMerchant", "... on Merchant { active }", id=merchant, active=False)
    async with cast.world.unchanged():
        refused = await cast.ask("21,00")
        assert (refused["code"], refused["problems"][0]["path"]) == ("FORBIDDEN", ["input", "pointOfSaleId"])
        assert refused["message"] == "Ce commerçant ne peut plus encaisser."
    assert (await cast.pay(asked))["status"] == "VALIDATED", "what it has asked for already goes on"
    await cast.agent.do("updateMerchant", "... on Merchant { active }", id=merchant, active=True)
    assert (await cast.ask("21,00"))["status"] == "AWAITING_PAYMENT"
