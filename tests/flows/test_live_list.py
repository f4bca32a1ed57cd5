"""The operations list, live; and the parties, as the issuer's staff keeps them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import next_of
from tests.flows.cast import OFFER, REQUEST, Cast

pytestmark = pytest.mark.anyio

CHANGES = (
    "subscription ($place: ID, $filter: PaymentRequestFilter) { paymentRequestChanges(pointOfSaleId: $place,"
    " filter: $filter) { paymentRequest { basketNumber status } counters { toValidate awaitingPayment } } }"
)
HOLDER = "... on Holder { id reference name firstName email mobile wallet { amount } }"
MERCHANT = "... on Merchant { id number: code name active }"
PLACE = "... on PointOfSale { id number: code name address { street postcode town country } merchant { code } }"


async def _next(events: Any) -> tuple[str, str, int, int]:
    change = (await next_of(events, 30, "a change"))["paymentRequestChanges"]
    request, counters = change["paymentRequest"], change["counters"]
    return request["basketNumber"], request["status"], counters["toValidate"], counters["awaitingPayment"]


async def test_P7_the_list_and_its_counters_change_without_reload(cast: Cast) -> None:
    for n in range(7):
        await cast.ask(basketNumber=f"attente {n}")
    place = cast.world.places["P001"].global_id
    async with cast.signatory.subscribe(CHANGES, place=place) as events:
        assert await _next(events) == ("attente 6", "AWAITING_PAYMENT", 0, 7)
        request = await cast.ask(basketNumber="C", validationDays=2, customerIdentifier="ines")
        assert await _next(events) == ("C", "AWAITING_PAYMENT", 0, 8)
        offers = await cast.ines.ask(f"{{ myPaymentOffers {{ nodes {{ {OFFER} }} }} }}")
        await cast.pay(offers["myPaymentOffers"]["nodes"][0]["token"])
        assert await _next(events) == ("C", "TO_VALIDATE", 1, 7)
        await cast.till.do("validatePaymentRequest", REQUEST, id=request["id"])
        assert await _next(events) == ("C", "VALIDATED", 0, 7)


async def test_P7_a_filtered_list_sees_a_request_leave_its_status_and_nothing_else(cast: Cast) -> None:
    await cast.ask(basketNumber="A", label="kayak")
    only = {"status": ["AWAITING_PAYMENT"], "search": "kayak"}
    async with cast.till.subscribe(CHANGES, filter=only) as events:
        assert await _next(events) == ("A", "AWAITING_PAYMENT", 0, 1)
        await cast.ask(basketNumber="B", label="vélo")
        elsewhere = cast.world.places["P002"].global_id
        await cast.ask(till=cast.other_till, basketNumber="D", label="kayak", pointOfSaleId=elsewhere)
        request = await cast.ask(basketNumber="C", label="kayak double")
        assert await _next(events) == ("C", "AWAITING_PAYMENT", 0, 2)
        await cast.till.do("cancelPaymentRequest", REQUEST, id=request["id"])
        assert await _next(events) == ("C", "CANCELLED", 0, 1)


async def test_P22_P26_a_telephone_hears_of_its_offers_and_its_wallet_and_of_nobody_elses(cast: Cast) -> None:
    live = "subscription { holderChanges { reference wallet { amount } } }"

    async def heard(events: Any) -> str:
        holder = (await next_of(events, 30, "a change"))["holderChanges"]
        assert holder["reference"] == "ines"
        return str(holder["wallet"]["amount"])

    async with cast.ines.subscribe(live) as events, cast.eric.subscribe(live) as others:
        await next_of(others, 30, "the first state")
        assert await heard(events) == "100.00"
        asked = await cast.ask(basketNumber="C", validationDays=2, customerIdentifier="ines")
        assert await heard(events) == "100.00"
        token = (await cast.ines.ask("{ myPaymentOffers { nodes { token } } }"))["myPaymentOffers"]["nodes"][0]["token"]
        await cast.pay(token)
        assert await heard(events) == "60.00"
        await cast.till.do("validatePaymentRequest", REQUEST, id=asked["id"], amount="35,50")
        assert await heard(events) == "64.50"
        holder_id = cast.world.holders["ines"].global_id
        await cast.agent.do("creditHolder", HOLDER, holderId=holder_id, amount="10", reason="prime")
        assert await heard(events) == "74.50"
        by_code = await cast.ask(basketNumber="A")
        await cast.pay(by_code)
        assert await heard(events) == "34.50"
        # The first that Éric hears is about him.
        await cast.agent.do(
            "creditHolder", HOLDER, holderId=cast.world.holders["eric"].global_id, amount="1", reason="prime"
        )
        other = (await next_of(others, 30, "a change"))["holderChanges"]
        assert other == {"reference": "eric", "wallet": {"amount": "26.00"}}


async def test_P22_a_named_customer_finds_the_offer_in_its_application(cast: Cast) -> None:
    await cast.ask(basketNumber="qr")
    named = await cast.ask(basketNumber="nommée", customerIdentifier="ines@example.com")
    offers = f"{{ myPaymentOffers {{ totalCount nodes {{ {OFFER} }} }} }}"
    found = (await cast.ines.ask(offers))["myPaymentOffers"]
    assert (found["totalCount"], found["nodes"][0]["allowedActions"]) == (1, ["PAY", "DECLINE"])
    assert (await cast.eric.ask(offers))["myPaymentOffers"]["totalCount"] == 0
    token = found["nodes"][0]["token"]
    async with cast.world.unchanged():
        assert (await cast.pay(token, by=cast.eric))["code"] == "NOT_FOUND", "another customer was named"
    assert (await cast.pay(token))["status"] == "VALIDATED"
    assert (await cast.read(named))["status"] == "VALIDATED"
    with pytest.raises(Unexpected, match="FORBIDDEN"):
        await cast.till.ask(offers)


async def test_the_issuer_s_staff_keeps_merchants_points_of_sale_and_holders(cast: Cast) -> None:
    address = {"street": "1 rue du Port", "postcode": "45000", "town": "Orléans"}
    made = await cast.agent.do(
        "createMerchant",
        MERCHANT,
        code="909",
        name="Voile Club",
        pointsOfSale=[{"code": "V1", "name": "Ponton", "address": address}],
    )
    assert (made["number"], made["active"]) == ("909", True)
    again = {"code": "910", "name": "Aviron", "pointsOfSale": [{"code": "A1", "name": "Ponton"}]}
    rowing = await cast.agent.do("createMerchant", MERCHANT, **again, idempotencyKey="aviron")
    async with cast.world.unchanged():
        assert await cast.agent.do("createMerchant", MERCHANT, **again, idempotencyKey="aviron") == rowing
        other_input = again | {"name": "Pédalo"}
        reused = await cast.agent.do("createMerchant", MERCHANT, **other_input, idempotencyKey="aviron")
        assert reused["code"] == "IDEMPOTENCY_KEY_REUSED", reused
    second = await cast.agent.do("createPointOfSale", PLACE, merchantId=made["id"], code="V2", name="Cale")
    assert (second["merchant"], second["address"]) == ({"code": "909"}, None)
    moved = await cast.agent.do("updatePointOfSale", PLACE, id=second["id"], name="Grande cale", address=address)
    assert (moved["name"], moved["address"]) == ("Grande cale", {**address, "country": "FR"})

    lea = await cast.agent.do("createHolder", HOLDER, name="Martin", firstName="Léa", email="lea@example.com")
    assert (lea["reference"], lea["wallet"]) == ("lea@example.com", {"amount": "0.00"})
    changed = await cast.agent.do("updateHolder", HOLDER, id=lea["id"], mobile="+33 6 00 00 00 00")
    assert (changed["mobile"], changed["firstName"]) == ("+33 6 00 00 00 00", "Léa")
    found = await cast.agent.ask(
        '{ holders(search: "LEA") { nodes { reference } } merchants(search: "voile") { totalCount } }'
    )
    assert found == {"holders": {"nodes": [{"reference": "lea@example.com"}]}, "merchants": {"totalCount": 1}}

    async with cast.world.unchanged():
        for verb, fields, given, code, path in (
            ("createMerchant", MERCHANT, {"code": "909", "name": "X", "pointsOfSale": []}, "ALREADY_EXISTS", "code"),
            ("createMerchant", MERCHANT, {"code": "", "name": "X", "pointsOfSale": []}, "INVALID", "code"),
            ("createHolder", HOLDER, {"name": "X", "reference": "ines"}, "ALREADY_EXISTS", "reference"),
            ("createHolder", HOLDER, {"name": "X"}, "INVALID", "reference"),
            ("createHolder", HOLDER, {"name": "", "reference": "z"}, "INVALID", "name"),
            ("updateHolder", HOLDER, {"id": lea["id"], "email": "nowhere"}, "INVALID", "email"),
            (
                "createPointOfSale",
                PLACE,
                {"merchantId": made["id"], "code": "V1", "name": "X"},
                "ALREADY_EXISTS",
                "code",
            ),
        ):
            refused = await cast.agent.do(verb, fields, **given)
            assert (refused["code"], refused["problems"][0]["path"]) == (code, ["input", path]), (verb, given)
        for client in (cast.signatory, cast.till, cast.ines):
            assert (await client.do("createHolder", HOLDER, name="X", reference="x"))["code"] == "FORBIDDEN"
        other: Client = cast.stranger
        assert (await other.do("updatePointOfSale", PLACE, id=second["id"], name="X"))["code"] == "NOT_FOUND"


async def test_P6_the_list_has_the_manual_s_columns(cast: Cast) -> None:
    await cast.world.freeze(datetime(2020, 6, 24, 9, 6, tzinfo=UTC))
    await cast.ask(basketNumber="REF202006246", customerIdentifier="client@example.com", paymentDeadline="2020-07-04")
    data = await cast.till.ask(
        "{ paymentRequests { nodes { lastActionAt basketNumber typeLabel statusLabel"
        " amountRequested { formatted(signed: true) } amountReceived { formatted(signed: true) } allowedActions } } }"
    )
    assert data["paymentRequests"]["nodes"] == [
        {
            "lastActionAt": "2020-06-24T09:06:00+00:00",
            "basketNumber": "REF202006246",
            "typeLabel": "Paiement différé",
            "statusLabel": "En attente de paiement client",
            "amountRequested": {"formatted": "+40,00\u00a0€"},
            "amountReceived": None,
            "allowedActions": ["CANCEL", "CHANGE_COLLECTION"],
        }
    ]
    await cast.world.freeze(None)


async def test_P8_everything_shown_can_be_filtered_and_put_in_order(cast: Cast) -> None:
    for basket, amount in (("b", "60,00"), ("a", "20,00"), ("c", "40,00")):
        await cast.ask(amount, basketNumber=basket)
    await cast.ask("25,00", basketNumber="d", customerIdentifier="ines")
    offer = (await cast.ines.ask(f"{{ myPaymentOffers {{ nodes {{ {OFFER} }} }} }}"))["myPaymentOffers"]["nodes"][0]
    await cast.pay(offer["token"], "21,00")

    async def listed(**given: Any) -> str:
        data = await cast.till.ask(
            "query ($filter: PaymentRequestFilter, $order: PaymentRequestOrder! = LAST_ACTION, $after: String) {"
            " paymentRequests(filter: $filter, orderBy: $order, after: $after, first: 3) {"
            " nodes { basketNumber } pageInfo { endCursor } } }",
            **given,
        )
        page = data["paymentRequests"]
        names = "".join(node["basketNumber"] for node in page["nodes"])
        more = len(names) == 3
        return names + (await listed(**(given | {"after": page["pageInfo"]["endCursor"]})) if more else "")

    orders = {"LAST_ACTION": "dcab", "OLDEST_ACTION": "bacd", "NEWEST": "dcab", "OLDEST": "bacd"}
    orders |= {"AMOUNT": "bcda", "LOWEST_AMOUNT": "adcb", "BASKET_NUMBER": "abcd"}
    assert {order: await listed(order=order) for order in orders} == orders
    assert await listed(filter={"collection": ["IDENTIFIER"]}) == "d"
    assert await listed(filter={"minReceived": "21,00", "maxReceived": "21.00"}) == "d"
    assert await listed(filter={"minReceived": "21,01"}) == ""
    assert await listed(filter={"minAmount": "25,00", "maxAmount": "40,00"}) == "dc"
    with pytest.raises(Unexpected, match="INVALID"):
        await listed(filter={"minReceived": "abc"})
