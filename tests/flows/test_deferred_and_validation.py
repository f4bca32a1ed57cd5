"""Flows B, C and D: the customer pays by a day, the merchant validates within some days, or both. Through the API, in
the manual’s words; instants are to the microsecond."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from domain import calendar, payments
from domain.access import Actor
from domain.codes import read_global_id
from domain.work import perform
from escarcelle.clients import Client
from escarcelle.stories.telling import next_of
from tests.flows.cast import OFFER, REQUEST, Cast, set_rules, token_of

pytestmark = pytest.mark.anyio

MICROSECOND = timedelta(microseconds=1)
LIVE = f"subscription ($id: ID!) {{ paymentRequest(id: $id) {{ {REQUEST} }} }}"


def paris(*when: int) -> datetime:
    """What a clock on a wall in Paris says."""
    return datetime(*when, tzinfo=calendar.PARIS).astimezone(UTC)  # type: ignore[arg-type, misc]


MORNING = paris(2020, 6, 24, 11, 6)


async def _ask_b(cast: Cast, amount: str = "40,00", **given: Any) -> dict[str, Any]:
    """By 4 July 2020, no validation."""
    asked = {"paymentDeadline": "2020-07-04", "customerIdentifier": "ines@example.com", **given}
    return await cast.ask(amount, **asked)


async def _ask_c(cast: Cast, amount: str = "40,00", **given: Any) -> dict[str, Any]:
    """At once, then two days to validate."""
    return await cast.ask(amount, **{"customerIdentifier": "ines", "validationDays": 2, **given})


async def _ask_d(cast: Cast, amount: str = "40,00", **given: Any) -> dict[str, Any]:
    """By 4 July 2020, then two days to validate."""
    return await _ask_b(cast, amount, **{"validationDays": 2, **given})


async def _link(cast: Cast, request: dict[str, Any]) -> str:
    """The token in the link that the customer was sent."""
    rows = await cast.world.as_owner("SELECT token FROM payment_requests WHERE id = $1", _id(request))
    return str(rows[0]["token"])


async def _pay(cast: Cast, request: dict[str, Any], amount: str | None = None, **more: Any) -> dict[str, Any]:
    return await cast.pay(await _link(cast, request), amount, **more)


async def _validate(cast: Cast, request: dict[str, Any], amount: str | None = None, **more: Any) -> dict[str, Any]:
    by: Client = more.pop("by", cast.till)
    given = {"amount": amount} if amount is not None else {}
    return await by.do("validatePaymentRequest", REQUEST, id=request["id"], **given, **more)


async def _cancel(cast: Cast, request: dict[str, Any]) -> dict[str, Any]:
    return await cast.till.do("cancelPaymentRequest", REQUEST, id=request["id"])


async def _decline(cast: Cast, token: str, by: Client | None = None) -> dict[str, Any]:
    return await (by or cast.ines).do("declinePaymentRequest", OFFER, token=token)


async def _counters(cast: Cast) -> tuple[int, int]:
    data = await cast.till.ask("{ paymentRequests { counters { toValidate awaitingPayment } } }")
    counters = data["paymentRequests"]["counters"]
    return counters["toValidate"], counters["awaitingPayment"]


async def _fire(cast: Cast, deed: Callable[..., Awaitable[Any]], request: dict[str, Any]) -> object:
    return await perform(cast.world.database, Actor(cast.world.tenant), deed, _id(request))


async def _held(cast: Cast) -> int:
    return await cast.world.total(cast.world.merchants["708900"].id, "HELD")


async def _collected(cast: Cast) -> int:
    return await cast.world.total(cast.world.merchants["708900"].id, "MERCHANT")


def _id(request: dict[str, Any]) -> Any:
    return read_global_id(request["id"])[2]


def _refusal(answer: dict[str, Any]) -> tuple[str, list[list[str]]]:
    assert answer["__typename"] == "Refusal"
    return answer["code"], [problem["path"] for problem in answer["problems"]]


# ── the wizard ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "flow", "label"),
    [
        ({}, "IMMEDIATE", "Paiement immédiat"),
        ({"paymentDeadline": "2020-07-04"}, "DEFERRED", "Paiement différé"),
        ({"validationDays": 2}, "IMMEDIATE_WITH_VALIDATION", "Pré-réservation"),
        ({"paymentDeadline": "2020-07-04", "validationDays": 2}, "DEFERRED_WITH_VALIDATION", "Pré-réservation"),
    ],
)
async def test_P10_H7_two_questions_make_four_flows(cast: Cast, given: dict[str, Any], flow: str, label: str) -> None:
    await cast.world.freeze(MORNING)
    request = await cast.ask(customerIdentifier="ines@example.com", **given)
    assert (request["flow"], request["typeLabel"], request["status"]) == (flow, label, "AWAITING_PAYMENT")
    assert (request["paymentDueOn"], request["validationDays"]) == (
        given.get("paymentDeadline"),
        given.get("validationDays"),
    )
    assert (request["validationDeadline"], request["validateBy"]) == (None, None), "the window starts at the payment"


@pytest.mark.parametrize(
    ("now", "due_on", "deadline"),
    [
        (MORNING, "2020-07-04", "2020-07-04T22:00:00+00:00"),
        (paris(2028, 2, 28, 12), "2028-03-01", "2028-03-01T23:00:00+00:00"),
        (paris(2020, 6, 24, 23, 59), "2020-06-25", "2020-06-25T22:00:00+00:00"),
        (paris(2026, 3, 20, 9), "2026-03-29", "2026-03-29T22:00:00+00:00"),
        (MORNING, "2021-06-24", "2021-06-24T22:00:00+00:00"),
    ],
)
async def test_P11_H1_a_deferred_request_ends_with_its_last_day(
    cast: Cast, now: datetime, due_on: str, deadline: str
) -> None:
    await cast.world.freeze(now)
    request = await _ask_b(cast, paymentDeadline=due_on)
    assert (request["paymentDueOn"], request["paymentDeadline"]) == (due_on, deadline)


@pytest.mark.parametrize("days", [0, -1, 366])
async def test_P11_AP2_from_tomorrow_to_365_days(cast: Cast, days: int) -> None:
    await cast.world.freeze(MORNING)
    due_on = date(2020, 6, 24) + timedelta(days=days)
    async with cast.world.unchanged():
        refused = await _ask_b(cast, paymentDeadline=due_on.isoformat())
    assert _refusal(refused) == ("INVALID", [["input", "paymentDeadline"]])
    assert refused["message"] == "La date limite doit être comprise entre demain et 365 jours."


@pytest.mark.parametrize("days", [0, -1, 7])
async def test_AP2_the_window_is_of_1_to_6_days(cast: Cast, days: int) -> None:
    async with cast.world.unchanged():
        refused = await _ask_c(cast, validationDays=days)
    assert _refusal(refused) == ("INVALID", [["input", "validationDays"]])
    assert [(await _ask_c(cast, validationDays=n, basketNumber=f"{n}"))["validationDays"] for n in (1, 6)] == [1, 6]


async def test_AP2_both_limits_are_the_issuer_s(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    await cast.world.as_owner(
        "UPDATE issuers SET maximum_payment_days = 9, maximum_validation_days = 14 WHERE tenant = $1",
        cast.world.tenant,
    )
    assert _refusal(await _ask_b(cast)) == ("INVALID", [["input", "paymentDeadline"]])
    assert (await _ask_c(cast, validationDays=14))["validationDays"] == 14


@pytest.mark.parametrize(
    ("given", "identifier"),
    [
        ({"validationDays": 2}, None),
        ({"validationDays": 2}, " "),
        ({"paymentDeadline": "2020-07-04"}, None),
        ({"paymentDeadline": "2020-07-04"}, "ines"),
        ({"paymentDeadline": "2020-07-04", "validationDays": 2}, None),
        ({"paymentDeadline": "2020-07-04", "validationDays": 2}, "pas une adresse"),
    ],
)
async def test_P16_P17_H5_only_A_asks_nobody_by_name(cast: Cast, given: dict[str, Any], identifier: str | None) -> None:
    """C wants an identifier or an e-mail, B and D the customer's e-mail; there is a QR code in A alone."""
    await cast.world.freeze(MORNING)
    named: dict[str, Any] = {} if identifier is None else {"customerIdentifier": identifier}
    async with cast.world.unchanged():
        refused = await cast.ask(**given, **named)
    assert _refusal(refused) == ("INVALID", [["input", "customerIdentifier"]])


async def test_P17_H5_who_is_named_is_asked_and_no_code_is_shown(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    asked = {
        "IDENTIFIER": [await _ask_c(cast), await _ask_c(cast, basketNumber="2", customerIdentifier="ines@example.com")],
        "EMAIL": [await _ask_b(cast, basketNumber="3"), await _ask_d(cast, basketNumber="4")],
    }
    for collection, requests in asked.items():
        for request in requests:
            assert (request["collection"], request["qrCode"]) == (collection, None)
            assert "PRINT" not in request["allowedActions"]


# ── the customer is asked ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_P22_the_customer_is_mailed_a_link_that_opens_the_request(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    to = f"ines@{cast.world.slug}.example"
    request = await _ask_b(cast, customerIdentifier=to, label="Descente de Loire")
    mail = await cast.running.mail(to, "Descente de Loire")
    assert mail["subject"] == "[TEST] Canoë Kayak Club Orléans vous demande 40,00\u00a0€"
    assert "À régler au plus tard le : 04/07/2020" in mail["text"]
    assert "À régler avant le" not in mail["text"]
    token = await _link(cast, request)
    assert f"{cast.running.settings.public_url}/p/{token}" in mail["text"]
    offer = (
        await cast.ines.ask(f"query ($token: String!) {{ paymentOffer(token: $token) {{ {OFFER} }} }}", token=token)
    )["paymentOffer"]
    assert (offer["amount"], offer["dueOn"], offer["canLowerAmount"]) == ({"amount": "40.00"}, "2020-07-04", False)
    assert (offer["payBefore"], offer["allowedActions"]) == ("2020-07-04T22:00:00+00:00", ["PAY", "DECLINE"])


async def test_P22_who_is_asked_at_once_is_told_until_when_to_the_second(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    await _ask_c(cast, customerIdentifier=f"c@{cast.world.slug}.example")
    mail = await cast.running.mail(f"c@{cast.world.slug}.example", "vous demande")
    assert "À régler avant le : 24/06/2020 à 11:21:00" in mail["text"]
    assert "À régler au plus tard" not in mail["text"]


async def test_P22_a_request_is_for_whom_it_names(cast: Cast) -> None:
    request = await _ask_c(cast)
    async with cast.world.unchanged():
        assert (await _pay(cast, request, "20,00", by=cast.eric))["code"] == "NOT_FOUND"
        assert (await _decline(cast, await _link(cast, request), by=cast.eric))["code"] == "NOT_FOUND"


async def test_P22_an_address_that_two_share_names_neither(cast: Cast) -> None:
    """Either may open the mail and pay."""
    both = f"famille@{cast.world.slug}.example"
    for reference in ("lea", "paul"):
        await cast.world.holder(reference, "Durand", email=both)
    assert (await _pay(cast, await _ask_c(cast, customerIdentifier=both)))["status"] == "TO_VALIDATE"


async def test_AP10_an_unknown_customer_gets_the_same_answer_as_a_known_one(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    flows: list[dict[str, Any]] = [{}, {"validationDays": 2}]
    own = {"id", "transactionNumber", "basketNumber", "customerIdentifier"}
    for n, flow in enumerate(flows):
        known = await cast.ask(basketNumber=f"connu {n}", customerIdentifier="ines", **flow)
        unknown = await cast.ask(basketNumber=f"inconnu {n}", customerIdentifier="personne", **flow)
        assert {k: v for k, v in unknown.items() if k not in own} == {k: v for k, v in known.items() if k not in own}
        assert unknown["status"] == "AWAITING_PAYMENT"
        await cast.world.freeze(MORNING + timedelta(minutes=15) - MICROSECOND)
        assert (await cast.read(unknown))["status"] == "AWAITING_PAYMENT"
        await cast.world.freeze(MORNING + timedelta(minutes=15))
        assert (await cast.read(unknown))["status"] == "EXPIRED"
        await cast.world.freeze(MORNING)


async def test_AP10_by_mail_an_unknown_customer_is_invited(cast: Cast) -> None:
    to = f"nouveau@{cast.world.slug}.example"
    due_on = (datetime.now(UTC) + timedelta(days=10)).date().isoformat()
    request = await _ask_b(cast, customerIdentifier=to, paymentDeadline=due_on)
    mail = await cast.running.mail(to, "vous demande")
    token = await _link(cast, request)
    assert f"/p/{token}" in mail["text"]
    assert (await cast.pay(token))["status"] == "VALIDATED", "whoever has the mail may pay"


async def test_P19_another_way_of_asking_kills_the_old_code_at_once(cast: Cast) -> None:
    request = await cast.ask(basketNumber="REF1")
    old = token_of(request)
    to = f"ines@{cast.world.slug}.example"
    changed = await cast.till.do("changePaymentCollection", REQUEST, id=request["id"], customerIdentifier=to)
    same = ("id", "basketNumber", "status", "amountRequested", "transactionNumber", "paymentDeadline")
    assert [changed[name] for name in same] == [request[name] for name in same]
    assert (changed["collection"], changed["customerIdentifier"], changed["qrCode"]) == ("IDENTIFIER", to, None)
    assert (await cast.ines.ask("query ($t: String!) { paymentOffer(token: $t) { token } }", t=old))[
        "paymentOffer"
    ] is None
    async with cast.world.unchanged():
        assert (await cast.pay(old))["code"] == "NOT_FOUND"
        assert (await _decline(cast, old))["code"] == "NOT_FOUND"
    token = await _link(cast, request)
    assert f"/p/{token}" in (await cast.running.mail(to, "vous demande"))["text"]

    back = await cast.till.do("changePaymentCollection", REQUEST, id=request["id"])
    assert (back["collection"], back["customerIdentifier"]) == ("QR_CODE", None)
    async with cast.world.unchanged():
        assert (await cast.pay(token))["code"] == "NOT_FOUND"
    assert len({old, token, token_of(back)}) == 3
    assert (await cast.pay(back))["status"] == "VALIDATED"
    async with cast.world.unchanged():
        assert (await cast.till.do("changePaymentCollection", REQUEST, id=request["id"]))["code"] == "WRONG_STATE"


async def test_P19_only_A_goes_back_to_a_code(cast: Cast) -> None:
    request = await _ask_c(cast)
    async with cast.world.unchanged():
        refused = await cast.till.do("changePaymentCollection", REQUEST, id=request["id"])
    assert _refusal(refused) == ("INVALID", [["input", "customerIdentifier"]])


# ── the customer pays ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P24_H9_B_is_validated_when_it_is_paid(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    request = await _ask_b(cast)
    assert request["lastActionAt"] == "2020-06-24T09:06:00+00:00"
    await cast.world.freeze(paris(2020, 6, 24, 11, 15))
    assert (await _pay(cast, request))["status"] == "VALIDATED"
    paid = await cast.read(request)
    assert (paid["status"], paid["statusLabel"], paid["allowedActions"]) == ("VALIDATED", "Validé", [])
    assert paid["amountRequested"]["amount"] == paid["amountReceived"]["amount"] == "40.00"
    assert (paid["amountRemaining"], paid["validationDeadline"]) == ({"amount": "0.00"}, None)
    assert paid["lastActionAt"] == "2020-06-24T09:15:00+00:00"
    assert (await cast.world.wallet("ines"), await _collected(cast), await _held(cast)) == (60_00, 40_00, 0)


async def test_P23_H6_B_is_paid_in_full_or_not_at_all(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    request = await _ask_b(cast)
    for amount in ("30,00", "39,99"):
        async with cast.world.unchanged():
            refused = await _pay(cast, request, amount)
        assert _refusal(refused) == ("AMOUNT_TOO_LOW", [["input", "amount"]])
        assert refused["message"] == "Cette demande se paie en entier\u202f: 40,00\u00a0€.".replace("\u202f", " ")
    async with cast.world.unchanged():
        assert _refusal(await _pay(cast, request, "40,01")) == ("AMOUNT_TOO_HIGH", [["input", "amount"]])
    assert (await _pay(cast, request, "40,00"))["status"] == "VALIDATED"


@pytest.mark.parametrize("ask", [_ask_c, _ask_d])
async def test_P23_C_and_D_may_be_paid_in_part_and_wait_to_be_validated(
    cast: Cast, ask: Callable[[Cast], Awaitable[dict[str, Any]]]
) -> None:
    await cast.world.freeze(MORNING)
    request = await ask(cast)
    assert await _counters(cast) == (0, 1)
    paid = await _pay(cast, request, "30,00")
    assert (paid["status"], paid["amountPaid"], paid["allowedActions"]) == ("TO_VALIDATE", {"amount": "30.00"}, [])
    assert await _counters(cast) == (1, 0)
    now = await cast.read(request)
    assert (now["statusLabel"], now["allowedActions"]) == ("À valider", ["VALIDATE", "CANCEL"])
    assert (now["amountReceived"], now["amountRemaining"]) == ({"amount": "30.00"}, {"amount": "10.00"})
    assert now["amountValidated"] is None
    assert (await cast.world.wallet("ines"), await _held(cast), await _collected(cast)) == (70_00, 30_00, 0)
    async with cast.world.unchanged():
        refused = await _pay(cast, request, "10,00")
    assert (refused["code"], refused["message"]) == ("WRONG_STATE", "Cette demande est déjà payée.")


@pytest.mark.parametrize(
    ("paid_at", "days", "validate_by", "deadline"),
    [
        (paris(2020, 6, 24, 11, 33), 2, "2020-06-26", "2020-06-26T22:00:00+00:00"),
        (paris(2020, 6, 25, 9, 0), 2, "2020-06-27", "2020-06-27T22:00:00+00:00"),
        (paris(2020, 6, 24, 23, 59, 59, 999_999), 1, "2020-06-25", "2020-06-25T22:00:00+00:00"),
        (paris(2020, 6, 25, 0, 0), 1, "2020-06-26", "2020-06-26T22:00:00+00:00"),
        (paris(2020, 10, 23, 12, 0), 2, "2020-10-25", "2020-10-25T23:00:00+00:00"),
    ],
)
async def test_P12_H8_the_window_ends_with_a_day_counted_from_the_payment(
    cast: Cast, paid_at: datetime, days: int, validate_by: str, deadline: str
) -> None:
    await cast.world.freeze(paid_at - timedelta(hours=3))
    request = await _ask_d(cast, validationDays=days, paymentDeadline=(paid_at + timedelta(days=3)).date().isoformat())
    await cast.world.freeze(paid_at)
    await _pay(cast, request)
    paid = await cast.read(request)
    assert (paid["validateBy"], paid["validationDeadline"]) == (validate_by, deadline)


async def test_H8_C_asked_before_midnight_and_paid_after_it(cast: Cast) -> None:
    await cast.world.freeze(paris(2020, 6, 24, 23, 55))
    request = await _ask_c(cast)
    await cast.world.freeze(paris(2020, 6, 25, 0, 5))
    await _pay(cast, request)
    assert (await cast.read(request))["validateBy"] == "2020-06-27"


async def test_P25_until_the_last_microsecond_of_the_last_day(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    in_time, late = await _ask_b(cast, basketNumber="1"), await _ask_b(cast, basketNumber="2")
    await cast.world.freeze(paris(2020, 7, 4, 23, 59, 59, 999_999))
    assert (await cast.read(late))["status"] == "AWAITING_PAYMENT"
    assert (await _pay(cast, in_time))["status"] == "VALIDATED"

    await cast.world.freeze(paris(2020, 7, 5))
    for swept in (False, True):
        if swept:
            await _fire(cast, payments.expire, late)
        now = await cast.read(late)
        assert (now["status"], now["statusLabel"], now["allowedActions"]) == ("EXPIRED", "Expiré", [])
        assert (await _counters(cast), now["amountReceived"]) == ((0, 0), None)
        async with cast.world.unchanged():
            refused = await _pay(cast, late)
            assert (refused["code"], refused["message"]) == ("TOO_LATE", "Cette demande de paiement a expiré.")
            assert (await _decline(cast, await _link(cast, late)))["code"] == "TOO_LATE"
            assert (await _cancel(cast, late))["code"] == "TOO_LATE"
    assert now["lastActionAt"] == "2020-07-04T22:00:00+00:00"
    assert (await _ask_b(cast, basketNumber="2", paymentDeadline="2020-07-06"))["status"] == "AWAITING_PAYMENT"


async def test_P25_expiry_does_nothing_before_its_instant(cast: Cast) -> None:
    await cast.world.freeze(MORNING)
    request = await _ask_b(cast)
    await cast.world.freeze(paris(2020, 7, 4, 23, 59, 59, 999_999))
    async with cast.world.unchanged():
        assert await _fire(cast, payments.expire, request) is None


# ── the customer will not pay ─────────────────────────────────────────────────────────────────────────────────────────


async def test_P31_the_customer_declines_and_the_merchant_is_told(cast: Cast) -> None:
    to = f"caisse@{cast.world.slug}.example"
    request = await _ask_c(cast, notifyEmail=to, basketNumber="REF1")
    token = await _link(cast, request)
    async with cast.till.subscribe(LIVE, id=request["id"]) as events:
        assert (await next_of(events, 30, "till"))["paymentRequest"]["status"] == "AWAITING_PAYMENT"
        declined = await _decline(cast, token)
        assert (declined["status"], declined["statusLabel"], declined["allowedActions"]) == ("CANCELLED", "Annulé", [])
        assert (await next_of(events, 30, "till"))["paymentRequest"]["status"] == "CANCELLED"
    mail = await cast.running.mail(to, request["transactionNumber"])
    assert mail["subject"] == "[TEST] Paiement refusé (panier REF1)"
    assert await _counters(cast) == (0, 0)
    async with cast.world.unchanged():
        assert (await cast.pay(token))["code"] == "WRONG_STATE"
        assert (await _decline(cast, token))["code"] == "WRONG_STATE"
        assert (await _cancel(cast, request))["code"] == "WRONG_STATE"
    assert await cast.world.wallet("ines") == 100_00
    assert (await _ask_c(cast, basketNumber="REF1"))["status"] == "AWAITING_PAYMENT", "the number is free again"


async def test_P31_what_is_paid_is_not_declined(cast: Cast) -> None:
    request = await _ask_c(cast)
    await _pay(cast, request)
    async with cast.world.unchanged():
        assert (await _decline(cast, await _link(cast, request)))["code"] == "WRONG_STATE"


# ── the merchant validates, or not ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("amount", "validated", "back"), [(None, 40_00, 0), ("40,00", 40_00, 0), ("35.50", 35_50, 4_50), ("0,01", 1, 39_99)]
)
async def test_P26_the_merchant_validates_what_was_paid_or_less(
    cast: Cast, amount: str | None, validated: int, back: int
) -> None:
    to = f"ines@{cast.world.slug}.example"
    await cast.world.as_owner(
        "UPDATE holders SET email = $2 WHERE tenant = $1 AND reference = 'ines'", cast.world.tenant, to
    )
    request = await _ask_c(cast)
    await _pay(cast, request)
    now = await _validate(cast, request, amount)
    euros = f"{validated // 100}.{validated % 100:02}"
    assert (now["status"], now["statusLabel"], now["allowedActions"]) == ("VALIDATED", "Validé", [])
    assert (now["amountPaid"], now["amountValidated"], now["amountReceived"]) == (
        {"amount": "40.00"},
        {"amount": euros},
        {"amount": euros},
    )
    assert (await cast.world.wallet("ines"), await _collected(cast), await _held(cast)) == (60_00 + back, validated, 0)
    mail = await cast.running.mail(to, "a validé votre paiement")
    assert (f"{back // 100},{back % 100:02}\u00a0€ vous reviennent" in mail["text"]) == bool(back)
    async with cast.world.unchanged():
        assert (await _validate(cast, request))["code"] == "WRONG_STATE"
        assert (await _cancel(cast, request))["code"] == "WRONG_STATE", "validated is final (AP6)"


@pytest.mark.parametrize(
    ("amount", "code"), [("40,01", "AMOUNT_TOO_HIGH"), ("0", "INVALID"), ("-1", "INVALID"), ("abc", "INVALID")]
)
async def test_P26_never_more_than_was_paid_and_never_nothing(cast: Cast, amount: str, code: str) -> None:
    request = await _ask_c(cast, "50,00")
    await _pay(cast, request, "40,00")
    async with cast.world.unchanged():
        refused = await _validate(cast, request, amount)
    assert _refusal(refused) == (code, [["input", "amount"]])


async def test_P9_only_what_was_paid_is_validated(cast: Cast) -> None:
    request = await _ask_c(cast)
    async with cast.world.unchanged():
        assert (await _validate(cast, request))["code"] == "WRONG_STATE"
        assert (await _validate(cast, request, by=cast.other_till))["code"] == "NOT_FOUND"
        assert (await _validate(cast, request, by=cast.stranger))["code"] == "NOT_FOUND"
        assert (await _validate(cast, request, by=cast.ines))["code"] == "FORBIDDEN"


async def test_P27_H10_cancelling_gives_the_money_back(cast: Cast) -> None:
    request = await _ask_c(cast)
    await _pay(cast, request)
    now = await _cancel(cast, request)
    assert (now["status"], now["statusLabel"], now["allowedActions"]) == ("CANCELLED", "Annulé", [])
    assert (now["amountPaid"], now["amountReceived"]) == ({"amount": "40.00"}, None)
    assert (await cast.world.wallet("ines"), await _collected(cast), await _held(cast)) == (100_00, 0, 0)
    assert (
        request["transactionNumber"]
        in (await cast.running.mail("ines@example.com", request["transactionNumber"]))["text"]
    )
    async with cast.world.unchanged():
        assert (await _validate(cast, request))["code"] == "WRONG_STATE"
        assert (await _cancel(cast, request))["code"] == "WRONG_STATE"


@pytest.mark.parametrize("ask", [_ask_b, _ask_c, _ask_d])
async def test_P28_the_merchant_takes_a_request_back_before_it_is_paid(
    cast: Cast, ask: Callable[[Cast], Awaitable[dict[str, Any]]]
) -> None:
    await cast.world.freeze(MORNING)
    request = await ask(cast)
    assert "CANCEL" in request["allowedActions"]
    now = await _cancel(cast, request)
    assert (now["status"], now["amountReceived"], now["allowedActions"]) == ("CANCELLED", None, [])
    async with cast.world.unchanged():
        assert (await _pay(cast, request))["code"] == "WRONG_STATE"
    await cast.world.freeze(paris(2020, 7, 5))
    async with cast.world.unchanged():
        assert await _fire(cast, payments.expire, request) is None, "nothing is left to expire"


async def test_AP1_a_window_that_lapses_gives_the_money_back(cast: Cast) -> None:
    await cast.world.freeze(paris(2020, 6, 24, 11, 33))
    lapsed, validated = await _ask_d(cast, basketNumber="1"), await _ask_d(cast, basketNumber="2")
    await _pay(cast, lapsed, "30,00")
    await _pay(cast, validated)
    await cast.world.freeze(paris(2020, 6, 26, 23, 59, 59, 999_999))
    assert (await _validate(cast, validated))["status"] == "VALIDATED"
    async with cast.world.unchanged():
        assert await _fire(cast, payments.expire, lapsed) is None

    await cast.world.freeze(paris(2020, 6, 27))
    now = await cast.read(lapsed)
    assert (now["status"], now["amountReceived"], now["allowedActions"]) == ("EXPIRED", None, []), "before the sweep"
    async with cast.world.unchanged():
        assert (await _validate(cast, lapsed))["code"] == "TOO_LATE"
        assert (await _cancel(cast, lapsed))["code"] == "TOO_LATE"
    assert await cast.world.wallet("ines") == 30_00

    await _fire(cast, payments.expire, lapsed)
    assert (await cast.world.wallet("ines"), await _collected(cast), await _held(cast)) == (60_00, 40_00, 0)
    now = await cast.read(lapsed)
    assert (now["status"], now["lastActionAt"]) == ("EXPIRED", "2020-06-26T22:00:00+00:00")
    async with cast.world.unchanged():
        assert await _fire(cast, payments.expire, lapsed) is None
        assert (await _validate(cast, lapsed))["code"] == "TOO_LATE"
    mail = await cast.running.mail("ines@example.com", lapsed["transactionNumber"])
    assert "30,00\u00a0€ vous reviennent" in mail["subject"]


async def test_AP1_AP4_a_lapsed_request_gives_way_and_its_money_back_before_the_sweep(cast: Cast) -> None:
    await cast.world.freeze(paris(2020, 6, 24, 11, 33))
    request = await _ask_c(cast, basketNumber="REF1")
    await _pay(cast, request)
    await cast.world.freeze(paris(2020, 6, 27))
    assert (await _ask_c(cast, basketNumber="REF1"))["status"] == "AWAITING_PAYMENT"
    assert (await cast.world.wallet("ines"), await _held(cast)) == (100_00, 0)
    assert (await cast.read(request))["status"] == "EXPIRED"


async def test_AP1_a_merchant_may_choose_that_a_window_validates_by_itself(cast: Cast) -> None:
    merchant = cast.world.merchants["708900"].global_id
    chosen = "... on Merchant { name active autoValidation }"
    await cast.world.freeze(paris(2020, 6, 24, 11, 33))
    before = await _ask_c(cast, basketNumber="before", customerIdentifier="eric", amount="20,00")
    await _pay(cast, before, by=cast.eric)
    for client in (cast.signatory, cast.till, cast.ines):
        async with cast.world.unchanged():
            assert (await client.do("updateMerchant", chosen, id=merchant, autoValidation=True))["code"] == "FORBIDDEN"
    done = await cast.agent.do("updateMerchant", chosen, id=merchant, autoValidation=True)
    assert done == {
        "__typename": "Merchant", "name": "Canoë Kayak Club Orléans", "active": True, "autoValidation": True
    }  # fmt: skip
    left, lowered = await _ask_d(cast, basketNumber="left"), await _ask_d(cast, basketNumber="lowered")
    without = await cast.ask("20,00", basketNumber="A")
    await _pay(cast, left, "30,00")
    told = await cast.running.mail(f"p001@{cast.world.slug}.example", left["transactionNumber"])
    assert ("alors validée" in told["text"], "revient à votre client" in told["text"]) == (True, False)
    await _pay(cast, lowered)
    assert (await cast.read(left))["validateBy"] == "2020-06-26"
    assert await _chosen(cast) == {"before": False, "left": True, "lowered": True, "A": False}

    await cast.world.freeze(paris(2020, 6, 26))
    await _fire(cast, payments.warn, left)
    mail = await cast.running.mail(f"p001@{cast.world.slug}.example", "À valider avant le 26/06/2020")
    assert ("tout est validé" in mail["text"], "revient à votre client" in mail["text"]) == (True, False)
    assert (await _validate(cast, lowered, "25,00"))["status"] == "VALIDATED"
    await cast.world.freeze(paris(2020, 6, 26, 23, 59, 59, 999_999))
    async with cast.world.unchanged():
        assert await _fire(cast, payments.expire, left) is None
        assert (await cast.read(left))["status"] == "TO_VALIDATE"

    await cast.world.freeze(paris(2020, 6, 27))
    now = await cast.read(left)
    assert (now["status"], now["amountValidated"], now["amountReceived"], now["amountRemaining"]) == (
        "VALIDATED",
        {"amount": "30.00"},
        {"amount": "30.00"},
        {"amount": "10.00"},
    ), "before the sweep"
    assert await _received(cast, "30,00") == ["left"]
    async with cast.world.unchanged():
        assert (await _validate(cast, left))["code"] == "WRONG_STATE"
        assert (await _cancel(cast, left))["code"] == "WRONG_STATE"
        assert (await _ask_d(cast, basketNumber="left", paymentDeadline="2020-07-05"))["code"] == "ALREADY_EXISTS"
    await _fire(cast, payments.expire, left)
    swept = await cast.read(left)
    assert swept == now | {"lastActionAt": "2020-06-26T22:00:00+00:00"}
    await _fire(cast, payments.expire, before)
    assert (await cast.read(before))["status"] == "EXPIRED", "it was asked for before the choice"
    assert (await _collected(cast), await _held(cast)) == (30_00 + 25_00, 0)
    assert (await cast.world.wallet("ines"), await cast.world.wallet("eric")) == (45_00, 25_00)
    mail = await cast.running.mail("ines@example.com", left["transactionNumber"])
    assert "a validé votre paiement : 30,00\u00a0€" in mail["subject"]
    async with cast.world.unchanged():
        assert await _fire(cast, payments.expire, left) is None
    assert (await cast.read(without))["status"] == "EXPIRED", "without a window there is nothing to validate"


async def _chosen(cast: Cast) -> dict[str, bool]:
    listed = await cast.till.ask("{ paymentRequests { nodes { basketNumber autoValidation } } }")
    return {node["basketNumber"]: node["autoValidation"] for node in listed["paymentRequests"]["nodes"]}


async def _received(cast: Cast, amount: str) -> list[str]:
    listed = await cast.till.ask(
        "query ($filter: PaymentRequestFilter) { paymentRequests(filter: $filter) { nodes { basketNumber } } }",
        filter={"minReceived": amount, "maxReceived": amount},
    )
    return [node["basketNumber"] for node in listed["paymentRequests"]["nodes"]]


# ── the merchant is told ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_P13_P29_the_merchant_is_told_of_the_payment_and_until_when_to_validate(cast: Cast) -> None:
    to = f"caisse@{cast.world.slug}.example"
    await cast.world.freeze(paris(2020, 6, 24, 11, 33))
    request = await _ask_c(cast, notifyEmail=to)
    await _pay(cast, request, "30,00")
    mail = await cast.running.mail(to, request["transactionNumber"])
    assert "Montant réglé : 30,00\u00a0€" in mail["text"]
    assert "il reste 10,00\u00a0€ à régler" in mail["text"]
    assert "jusqu’au 26/06/2020 inclus" in mail["text"]


async def test_P13_AP7_the_merchant_is_warned_24_hours_before_the_window_ends(cast: Cast) -> None:
    to = f"caisse@{cast.world.slug}.example"
    await cast.world.freeze(paris(2020, 6, 24, 11, 33))
    request = await _ask_d(cast, notifyEmail=to)
    await _pay(cast, request)
    await cast.world.freeze(paris(2020, 6, 25, 23, 59, 59, 999_999))
    async with cast.world.unchanged():
        assert await _fire(cast, payments.warn, request) is None
    await cast.world.freeze(paris(2020, 6, 26))
    assert await _fire(cast, payments.warn, request) is not None
    mail = await cast.running.mail(to, "À valider avant le 26/06/2020")
    assert mail["subject"] == "[TEST] À valider avant le 26/06/2020 : 40,00\u00a0€ (panier panier-40,00)"
    assert request["transactionNumber"] in mail["text"]
    async with cast.world.unchanged():
        assert (await cast.read(request))["status"] == "TO_VALIDATE", "a warning changes nothing"


@pytest.mark.parametrize(
    ("hours", "waits_until"),
    [
        ((8, 20), paris(2020, 6, 26, 8)),
        ((1, 2), paris(2020, 6, 26, 1)),
        ((0, 24), None),
        ((0, 1), None),
    ],
)
async def test_AP7_warnings_wait_for_the_issuer_s_hours(
    cast: Cast, hours: tuple[int, int], waits_until: datetime | None
) -> None:
    await set_rules(cast.world, "--warning-hours", "{}-{}".format(*hours))
    to = f"caisse@{cast.world.slug}.example"
    await cast.world.freeze(paris(2020, 6, 24, 11, 33))
    request = await _ask_d(cast, notifyEmail=to)
    await _pay(cast, request)
    await cast.world.freeze(paris(2020, 6, 26))
    await _fire(cast, payments.warn, request)
    if waits_until is not None:
        rows = await cast.world.as_owner(
            "SELECT d.due_at + (i.frozen_at - clock_timestamp()) AS at FROM deadlines d JOIN issuers i USING (tenant)"
            " WHERE tenant = $1 AND d.name = 'warn'",
            cast.world.tenant,
        )
        assert abs(rows[0]["at"] - waits_until) < timedelta(seconds=10)
        await cast.world.freeze(waits_until - timedelta(microseconds=1))
        await _fire(cast, payments.warn, request)
        assert [mail for mail in await cast.running.mails(to) if "À valider" in mail["subject"]] == []
        await cast.world.freeze(waits_until)
        await _fire(cast, payments.warn, request)
    assert request["transactionNumber"] in (await cast.running.mail(to, "À valider avant le 26/06/2020"))["text"]


@pytest.mark.parametrize(
    ("hours", "asked_at", "warned_at"),
    [
        ("8-20", paris(2020, 6, 24, 11, 33), paris(2020, 6, 25, 20)),
        ("0-1", paris(2026, 10, 24, 0, 30), paris(2026, 10, 25, 1)),
    ],
    ids=["nobody worked until the evening", "the night of 25 hours"],
)
async def test_AP7_P13_hours_that_come_too_late_keep_no_warning_back(
    cast: Cast, hours: str, asked_at: datetime, warned_at: datetime
) -> None:
    await set_rules(cast.world, "--warning-hours", hours)
    to = f"caisse@{cast.world.slug}.example"
    await cast.world.freeze(asked_at)
    request = await _ask_c(cast, validationDays=1, notifyEmail=to)
    await _pay(cast, request)
    await cast.world.freeze(warned_at)
    await _fire(cast, payments.warn, request)
    assert request["transactionNumber"] in (await cast.running.mail(to, "À valider avant le"))["text"]


async def test_P13_AP7_the_warning_is_due_24_hours_before(cast: Cast) -> None:
    request = await _ask_c(cast)
    await _pay(cast, request)
    window_ends = datetime.fromisoformat((await cast.read(request))["validationDeadline"])
    rows = await cast.world.as_owner("SELECT name, due_at FROM deadlines WHERE tenant = $1", cast.world.tenant)
    due = {row["name"]: row["due_at"] for row in rows}
    assert timedelta(0) <= due["expire"] - window_ends < timedelta(seconds=1)
    assert timedelta(0) <= due["warn"] - (window_ends - timedelta(hours=24)) < timedelta(seconds=1)


async def test_P13_a_window_of_less_than_24_hours_is_warned_of_at_once(cast: Cast) -> None:
    """A day that is 23 hours long: paid just before it, one day to validate."""
    to = f"caisse@{cast.world.slug}.example"
    await cast.world.freeze(paris(2026, 3, 28, 23, 50))
    request = await _ask_c(cast, notifyEmail=to, validationDays=1)
    await _pay(cast, request)
    assert (await cast.read(request))["validationDeadline"] == "2026-03-29T22:00:00+00:00"
    assert request["transactionNumber"] in (await cast.running.mail(to, "À valider avant le 29/03/2026"))["text"]


@pytest.mark.parametrize("act", [_validate, _cancel])
async def test_P13_no_warning_after_the_merchant_has_decided(
    cast: Cast, act: Callable[[Cast, dict[str, Any]], Awaitable[dict[str, Any]]]
) -> None:
    await cast.world.freeze(paris(2020, 6, 24, 11, 33))
    request = await _ask_c(cast)
    await _pay(cast, request)
    assert (await act(cast, request))["__typename"] == "PaymentRequest"
    assert await cast.world.as_owner("SELECT 1 FROM deadlines WHERE tenant = $1", cast.world.tenant) == []
    await cast.world.freeze(paris(2020, 6, 26))
    async with cast.world.unchanged():
        assert await _fire(cast, payments.warn, request) is None


async def _remembered(cast: Cast, client: Client) -> dict[str, str | None]:
    places = await client.ask("{ pointsOfSale { nodes { code rememberedEmail } } }")
    return {place["code"]: place["rememberedEmail"] for place in places["pointsOfSale"]["nodes"]}


async def test_P13_the_address_is_remembered_per_user_and_point_of_sale_while_it_is_ticked(cast: Cast) -> None:
    elsewhere = cast.world.places["P002"].global_id
    assert await _remembered(cast, cast.till) == {"P001": None}
    await _ask_c(cast, basketNumber="1", notifyEmail="a@example.com", rememberEmail=True)
    assert await _remembered(cast, cast.till) == {"P001": "a@example.com"}
    await _ask_c(cast, basketNumber="2", notifyEmail="b@example.com", rememberEmail=True)
    assert await _remembered(cast, cast.till) == {"P001": "b@example.com"}
    await _ask_c(cast, basketNumber="3", notifyEmail="c@example.com")
    assert await _remembered(cast, cast.till) == {"P001": "b@example.com"}, "nothing was said about it"

    assert await _remembered(cast, cast.signatory) == {"P001": None, "P002": None}
    await _ask_c(
        cast,
        till=cast.signatory,
        basketNumber="4",
        pointOfSaleId=elsewhere,
        notifyEmail="d@example.com",
        rememberEmail=True,
    )
    assert await _remembered(cast, cast.signatory) == {"P001": None, "P002": "d@example.com"}
    assert await _remembered(cast, cast.other_till) == {"P002": None}

    await _ask_c(cast, basketNumber="5", notifyEmail="b@example.com", rememberEmail=False)
    assert await _remembered(cast, cast.till) == {"P001": None}, "unticked, the next wizard is empty"
    assert await _remembered(cast, cast.signatory) == {"P001": None, "P002": "d@example.com"}


@pytest.mark.parametrize("address", ["é@exemple.fr", "a@b.example, c@d.example", "Evil <a@b.example>", "@"])
async def test_P17_an_address_that_no_mail_can_be_sent_to_is_refused(cast: Cast, address: str) -> None:
    async with cast.world.unchanged():
        refused = await cast.ask(customerIdentifier=address, paymentDeadline="2027-01-01")
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "customerIdentifier"])
