"""A client of the soak: a till with its customer, and a model of what must have come of everything they did.

An answer that does not come is asked for again with the same key, at either API process, until it does; what has no
key is looked up."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from domain.codes import read_global_id
from escarcelle.clients import Client, Unexpected
from tests.world import World

AWAITING, TO_VALIDATE, VALIDATED, CANCELLED, EXPIRED = (
    "AWAITING_PAYMENT", "TO_VALIDATE", "VALIDATED", "CANCELLED", "EXPIRED",
)  # fmt: skip
WALLET = 10_000_00

_REQUEST = "... on PaymentRequest { id status transactionNumber amountPaid { amount } amountValidated { amount } }"
_OFFER = "... on PaymentOffer { status amountPaid { amount } }"
_INSIST_SECONDS = 90
_HEDGED = 0.04
"""How often a mutation is sent twice at once, to both API processes."""
_HUNG_UP = 0.06
"""How often a client hangs up before it has heard the answer."""


@dataclass
class Request:
    """What the model knows of a payment request. Amounts are cents. `verbs` are what was acknowledged, each with how
    often it may have been done: more than once only where there is no key and an answer was lost. `perhaps` are those
    of which every answer that came was a refusal, after one that did not come."""

    id: str
    basket_number: str
    transaction_number: str
    token: str
    cents: int
    has_window: bool
    may_be_lowered: bool
    by_code: bool
    auto_validates: bool
    status: str = AWAITING
    paid: int | None = None
    validated: int | None = None
    given_back: bool = False
    verbs: list[tuple[str, int]] = field(default_factory=list)
    perhaps: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Acknowledged:
    """A key, what its answer said, and when it was first sent and sent again."""

    key: str
    result_id: str | None
    first_sent: datetime
    sent_again: datetime | None


@dataclass
class Notes:
    """What all clients count together."""

    steps: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    hedges: int = 0
    longest_wait: float = 0.0


@dataclass
class Shop:
    """One till and one customer. `devices` are one for each API process, by who holds it."""

    name: str
    place_id: str
    customer: str
    auto_validates: bool
    devices: dict[str, list[Client]]
    world: World
    chance: random.Random
    notes: Notes
    requests: list[Request] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused_keys: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    jobs_at_most: int = 0
    moves_the_clock: int = 0

    async def step(self) -> None:
        """One thing that a till or a customer does."""
        chance = self.chance
        awaiting = [request for request in self.requests if request.status == AWAITING]
        to_validate = [request for request in self.requests if request.status == TO_VALIDATE]
        if self.moves_the_clock and chance.random() < 0.08:
            self.moves_the_clock -= 1
            await self._advance_clock()
        elif to_validate and chance.random() < 0.35:
            request = chance.choice(to_validate)
            await (self._cancel(request) if chance.random() < 0.25 else self._validate(request))
        elif awaiting and chance.random() < 0.75:
            request = chance.choice(awaiting)
            deeds = [self._pay] * 7 + [self._decline, self._cancel, self._change_collection, self._look]
            await chance.choice(deeds)(request)
        elif chance.random() < 0.06:
            await self._export()
        else:
            await self._create()

    # ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _create(self) -> None:
        chance, cents = self.chance, self.chance.randint(20_00, 60_00)
        has_window, is_deferred, by_code = chance.random() < 0.45, chance.random() < 0.35, chance.random() < 0.5
        by_code = by_code and not has_window and not is_deferred
        given: dict[str, Any] = {
            "pointOfSaleId": self.place_id,
            "amount": f"{cents / 100:.2f}",
            "basketNumber": uuid4().hex,
        }
        if not by_code:
            given["customerIdentifier"] = f"{self.customer}@example.com" if is_deferred else self.customer
        if has_window:
            given["validationDays"] = chance.randint(1, 5)
        if is_deferred:
            given["paymentDeadline"] = (await self._today() + timedelta(days=chance.randint(3, 30))).isoformat()
        answer = await self._insist("till", "createPaymentRequest", **given)
        assert answer["__typename"] == "PaymentRequest" and answer["status"] in (AWAITING, EXPIRED), answer
        request = Request(
            answer["id"],
            given["basketNumber"],
            answer["transactionNumber"],
            await self._token(answer["id"]),
            cents,
            has_window,
            may_be_lowered=has_window or not is_deferred,
            by_code=by_code,
            auto_validates=has_window and self.auto_validates,
            verbs=[("create", 1)],
        )
        self.requests.append(request)

    async def _pay(self, request: Request) -> None:
        cents = self.chance.randint(1_00, request.cents) if self.chance.random() < 0.5 else request.cents
        given = {"token": request.token} | ({"amount": f"{cents / 100:.2f}"} if cents < request.cents else {})
        answer = await self._insist("phone", "payPaymentRequest", **given)
        if answer["__typename"] == "Refusal":
            if cents < request.cents and not request.may_be_lowered and answer["code"] == "AMOUNT_TOO_LOW":
                return
            await self._must_have_expired(request, answer)
            return
        assert _cents(answer["amountPaid"]) == cents, answer
        request.paid = cents
        self._acknowledge(request, "pay", answer, TO_VALIDATE if request.has_window else VALIDATED)
        request.validated = None if request.has_window else cents

    async def _decline(self, request: Request) -> None:
        answer = await self._insist("phone", "declinePaymentRequest", token=request.token)
        if answer["__typename"] == "Refusal":
            # What has no key cannot be asked for again: whether the lost answer was a yes, the request says.
            if answer["code"] == "WRONG_STATE" and answer["tries"] > 1 and await self._status(request) == CANCELLED:
                self._acknowledge(request, "decline", answer, CANCELLED)
                return
            await self._must_have_expired(request, answer)
            return
        self._acknowledge(request, "decline", answer, CANCELLED)

    async def _validate(self, request: Request) -> None:
        assert request.paid is not None
        cents = self.chance.randint(1, request.paid) if self.chance.random() < 0.5 else request.paid
        given = {"id": request.id} | ({"amount": f"{cents / 100:.2f}"} if cents < request.paid else {})
        answer = await self._insist("till", "validatePaymentRequest", **given)
        if answer["__typename"] == "Refusal":
            await self._must_have_expired(request, answer)
            return
        assert _cents(answer["amountValidated"]) == cents, answer
        request.validated = cents
        self._acknowledge(request, "validate", answer, VALIDATED)

    async def _cancel(self, request: Request) -> None:
        was_paid = request.status == TO_VALIDATE
        answer = await self._insist("till", "cancelPaymentRequest", id=request.id)
        if answer["__typename"] == "Refusal":
            await self._must_have_expired(request, answer)
            return
        request.given_back = was_paid
        self._acknowledge(request, "cancel", answer, CANCELLED)

    async def _change_collection(self, request: Request) -> None:
        if request.has_window or not request.may_be_lowered:
            await self._look(request)
            return
        given = {"id": request.id} | ({"customerIdentifier": self.customer} if self.chance.random() < 0.5 else {})
        answer = await self._insist("till", "changePaymentCollection", **given)
        if answer["__typename"] == "Refusal":
            request.perhaps["change_collection"] += answer["tries"] - 1
            await self._must_have_expired(request, answer)
            return
        request.by_code = "customerIdentifier" not in given
        request.verbs.append(("change_collection", answer["tries"]))
        request.token = await self._token(request.id)

    async def _look(self, request: Request) -> None:
        """What was acknowledged is what is read."""
        status = await self._status(request)
        assert status in (request.status, EXPIRED), (status, request)
        if status == EXPIRED:
            request.status = EXPIRED

    async def _export(self) -> None:
        answer = await self._insist("till", "createExport", kind="PAYMENT_REQUESTS", format="CSV")
        if answer["__typename"] == "Refusal":
            assert answer["code"] == "RATE_LIMITED", answer
            self.jobs_at_most += answer["tries"] - 1
            return
        self.jobs.append(answer["id"])
        self.jobs_at_most += answer["tries"]

    async def _advance_clock(self) -> None:
        hours = self.chance.choice([1, 2, 26])
        answer = await self._insist("office", "advanceClock", hours=hours)
        assert answer["__typename"] == "Issuer", answer

    # ── asking until there is an answer ───────────────────────────────────────────────────────────────────────────────

    async def _insist(self, who: str, mutation: str, **given: Any) -> dict[str, Any]:
        """The answer, with how often it was `tries`."""
        self.notes.steps[mutation] += 1
        key = str(uuid4()) if mutation in _KEYED else None
        keyed = {"idempotencyKey": key} if key else {}
        fields = _FIELDS[mutation]
        started, first_sent, sent_again, tries, answer = time.monotonic(), datetime.now(UTC), None, 0, None
        while answer is None:
            assert time.monotonic() - started < _INSIST_SECONDS, f"{mutation} is never answered"
            tries += 1
            sent_again = datetime.now(UTC) if tries == 2 else sent_again
            if key and tries == 1 and self.chance.random() < _HEDGED:
                self.notes.hedges += 1
                both = await asyncio.gather(
                    *(_sent(device, mutation, fields, given | keyed) for device in self.devices[who])
                )
                answers = [each for each in both if each is not None]
                assert len(answers) < 2 or _alike(*answers), answers
                answer = answers[0] if answers else None
            else:
                device, patience = self.chance.choice(self.devices[who]), None
                if tries == 1 and self.chance.random() < _HUNG_UP:
                    patience = self.chance.uniform(0.005, 0.08)
                answer = await _sent(device, mutation, fields, given | keyed, patience)
            if answer is None:
                self.notes.retries += 1
                await asyncio.sleep(self.chance.uniform(0.05, 0.3))
        self.notes.longest_wait = max(self.notes.longest_wait, time.monotonic() - started)
        if answer["__typename"] == "Refusal":
            self.notes.refusals[answer["code"]] += 1
            if key:
                self.refused_keys.append(key)
        elif key:
            self.acknowledged.append(Acknowledged(key, answer.get("id"), first_sent, sent_again))
        return {**answer, "tries": tries}

    async def _read(self, who: str, document: str, **variables: Any) -> dict[str, Any]:
        started = time.monotonic()
        while True:
            assert time.monotonic() - started < _INSIST_SECONDS, "a question is never answered"
            try:
                return await self.chance.choice(self.devices[who]).ask(document, **variables)
            except (httpx.TransportError, json.JSONDecodeError):
                pass
            except Unexpected as unexpected:
                if not _is_to_be_sent_again(unexpected):
                    raise
            self.notes.retries += 1
            await asyncio.sleep(self.chance.uniform(0.05, 0.3))

    async def _status(self, request: Request) -> str:
        document = "query ($id: ID!) { node(id: $id) { ... on PaymentRequest { status } } }"
        self.notes.steps["node"] += 1
        return str((await self._read("till", document, id=request.id))["node"]["status"])

    async def _token(self, request_id: str) -> str:
        """The token, as the mail to the customer would carry it."""
        rows = await self._look_inside("SELECT token FROM payment_requests WHERE id = $1", request_id)
        return str(rows[0]["token"])

    async def _look_inside(self, statement: str, request_id: str) -> list[Any]:
        started = time.monotonic()
        while True:
            try:
                return await self.world.as_owner(statement, read_global_id(request_id)[2])
            except Exception:
                if time.monotonic() - started > _INSIST_SECONDS:
                    raise
                await asyncio.sleep(0.1)

    async def _today(self) -> date:
        viewer = (await self._read("till", "{ viewer { issuer { now } } }"))["viewer"]
        return datetime.fromisoformat(viewer["issuer"]["now"]).date()

    # ── the model ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _acknowledge(self, request: Request, verb: str, answer: dict[str, Any], becomes: str) -> None:
        # What is answered again after the clock was moved has expired since.
        assert answer.get("status", becomes) in (becomes, EXPIRED, VALIDATED), (verb, answer)
        request.status = becomes
        request.verbs.append((verb, 1))

    async def _must_have_expired(self, request: Request, answer: dict[str, Any]) -> None:
        """A refusal of what the model allows is right only when a time limit has passed."""
        assert answer["code"] in ("TOO_LATE", "WRONG_STATE"), (answer, request)
        status = await self._status(request)
        ends = {AWAITING: {EXPIRED}, TO_VALIDATE: {VALIDATED} if request.auto_validates else {EXPIRED}}
        assert status in ends[request.status], (status, answer, request)
        if status == EXPIRED:
            request.given_back = request.status == TO_VALIDATE
        else:
            request.validated = request.paid
        request.status = status


async def _sent(
    device: Client, mutation: str, fields: str, given: dict[str, Any], patience: float | None = None
) -> dict[str, Any] | None:
    """What came back; None when nobody knows what became of it. `patience` is after how many seconds to hang up."""
    try:
        async with asyncio.timeout(patience):
            return await device.do(mutation, fields, **given)
    except (httpx.TransportError, json.JSONDecodeError, TimeoutError):
        return None
    except Unexpected as unexpected:
        if not _is_to_be_sent_again(unexpected):
            raise
        return None


def _is_to_be_sent_again(unexpected: Unexpected) -> bool:
    """Whether the server says that it could not, rather than that it would not."""
    return any(f'"{code}"' in str(unexpected) for code in ("INTERNAL", "REQUEST_TIMEOUT"))


def _alike(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two answers to one key say the same; what moves with the clock aside."""
    return first.get("id") == second.get("id") and first["__typename"] == second["__typename"]


def _cents(money: dict[str, str] | None) -> int | None:
    return None if money is None else int(re.sub(r"\D", "", money["amount"]))


_KEYED = frozenset({"createPaymentRequest", "payPaymentRequest", "validatePaymentRequest", "cancelPaymentRequest"})
_FIELDS = {
    "createPaymentRequest": _REQUEST,
    "payPaymentRequest": _OFFER,
    "declinePaymentRequest": _OFFER,
    "validatePaymentRequest": _REQUEST,
    "cancelPaymentRequest": _REQUEST,
    "changePaymentCollection": _REQUEST,
    "createExport": "... on Job { id }",
    "advanceClock": "... on Issuer { now }",
}
