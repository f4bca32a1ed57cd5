"""Tills and customers go on while API and task processes are killed, PostgreSQL is cut off and Redis forgets: nothing
is lost, nothing is done twice, nothing is stuck.

ESCARCELLE_SOAK=long takes 5,000 steps with 20 kills of each kind of process; ESCARCELLE_TEST_SEED repeats its
chance."""

import asyncio
import os
import random
import re
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from domain.access import Right, Role
from domain.codes import read_global_id
from domain.db import READER, connect_as
from escarcelle.clients import Client
from reporting import audit
from tests.soak.house import LONG, House
from tests.soak.shop import AWAITING, CANCELLED, EXPIRED, TO_VALIDATE, VALIDATED, WALLET, Notes, Request, Shop
from tests.tasks import PostBox, database_of, settings_for
from tests.world import Servers, World

SHOPS = 16
STEPS = 5_000 if LONG else 600
STRIKES = (
    {"api": 20, "work": 20, "postgresql": 3, "redis": 3} if LONG else {"api": 3, "work": 3, "postgresql": 1, "redis": 1}
)
AFTERWARDS_SECONDS = 90
"""Within which nothing is left to be done."""

_AUTO, _PLAIN = "AV", "CK"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers.start(tmp_path_factory.mktemp("soak"))
    yield started
    started.stop()


# ── the soak ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Steps:
    """How many steps may be taken until the next strike."""

    allowed: int = 0
    taken: int = 0
    over: bool = False
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self) -> bool:
        """One step, when it is allowed; False when there are no more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.over or self.taken < self.allowed)
            if self.taken >= self.allowed:
                return False
            self.taken += 1
            self._changed.notify_all()
            return True

    async def allow(self, count: int) -> None:
        """So many more."""
        async with self._changed:
            self.allowed += count
            self._changed.notify_all()

    async def wait_until_taken(self, count: int) -> None:
        """Until so many are taken in all."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.taken >= count)

    async def end(self) -> None:
        """There are no more."""
        async with self._changed:
            self.over = True
            self._changed.notify_all()


@asynccontextmanager
async def shops(world: World, house: House, seed: int) -> AsyncIterator[list[Shop]]:
    """Everyone, signed in at both API processes. Every other merchant's windows validate by themselves."""
    notes = Notes()
    places = {_PLAIN: [f"P{n}" for n in range(0, SHOPS, 2)], _AUTO: [f"P{n}" for n in range(1, SHOPS, 2)]}
    for code, names in places.items():
        await world.merchant(code, f"Club {code}", dict.fromkeys(names, "Base nautique"))
    await world.as_owner("UPDATE merchants SET auto_validation = true WHERE tenant = $1 AND code = 'AV'", world.tenant)
    await world.user("office", Role.ISSUER_ADMIN)
    async with AsyncExitStack() as stack:

        async def devices(login: str) -> list[Client]:
            token = await world.session(login)
            clients = [await stack.enter_async_context(Client(url)) for url in house.urls]
            for client in clients:
                client.token = token
            return clients

        office, opened = await devices("office"), []
        for n in range(SHOPS):
            place, till, customer = f"P{n}", f"till-{n}", f"client-{n}"
            merchant = _AUTO if n % 2 else _PLAIN
            await world.user(
                till,
                Role.MERCHANT_STAFF,
                merchant=merchant,
                grants={place: frozenset(Right)},
                email=f"{till}@example.com",
            )
            await world.holder(customer, "Durand", f"{WALLET / 100:.2f}", f"{customer}@example.com")
            await world.user(customer, Role.HOLDER, holder=customer)
            opened.append(
                Shop(
                    place,
                    world.places[place].global_id,
                    customer,
                    merchant == _AUTO,
                    {"till": await devices(till), "phone": await devices(customer), "office": office},
                    world,
                    random.Random(f"{seed} {n}"),
                    notes,
                    moves_the_clock=(8 if LONG else 2) if n == 0 else 0,
                )
            )
        yield opened


async def soak(house: House, shops: list[Shop], chance: random.Random) -> None:
    """All the steps, with all the strikes in their midst."""
    steps = Steps()
    strikes = [what for what, times in STRIKES.items() for _ in range(times)]
    chance.shuffle(strikes)

    async def go_on(shop: Shop) -> None:
        while await steps.take():
            await shop.step()

    async def strike() -> None:
        per_strike = STEPS // (len(strikes) + 1)
        for number, what in enumerate(strikes):
            await steps.allow(per_strike)
            await steps.wait_until_taken(number * per_strike + chance.randint(per_strike // 4, per_strike // 2))
            await house.strike(what, chance)
        await steps.allow(STEPS - len(strikes) * per_strike)
        await steps.wait_until_taken(STEPS)
        await steps.end()

    async with asyncio.TaskGroup() as group:
        for shop in shops:
            group.create_task(go_on(shop))
        group.create_task(strike())


# ── what must be true afterwards ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Reckoning:
    """Compares the database and the mails with what the clients know."""

    world: World
    house: House
    shops: list[Shop]
    box: PostBox

    @property
    def requests(self) -> list[tuple[Shop, Request]]:
        """All of them, with their shops."""
        return [(shop, request) for shop in self.shops for request in shop.requests]

    async def nothing_is_stuck(self) -> float:
        """Nothing is left to be done within AFTERWARDS_SECONDS; returns after how many."""
        started = time.monotonic()
        left: dict[str, int] = {}
        while time.monotonic() - started < AFTERWARDS_SECONDS:
            left = await self._left()
            if not any(left.values()):
                return time.monotonic() - started
            await asyncio.sleep(0.1)
        rows = await self.world.as_owner(
            "SELECT topic, sends, failures, last_error, claim_at - now() AS due FROM outbox"
        )
        jobs = await self.world.as_owner("SELECT status, runs FROM jobs WHERE status NOT IN ('DONE', 'FAILED')")
        raise AssertionError(f"left after {AFTERWARDS_SECONDS} s: {left} {[dict(r) for r in (*rows[:20], *jobs)]}")

    async def all_has_ended(self) -> None:
        """The clock goes on until every time limit has passed."""
        async with Client(self.house.urls[0]) as office:
            office.token = await self.world.session("office")
            for _ in range(40):
                answer = await office.do("advanceClock", "... on Issuer { now }", days=60)
                assert answer["__typename"] == "Issuer", answer
                if not await self._open_requests():
                    return
        raise AssertionError("requests stay open for years")

    async def exports_are_whole(self) -> None:
        """Every job is done once, and the files that have not expired can be fetched."""
        rows = await self.world.as_owner("SELECT id, status, runs FROM jobs WHERE tenant = $1", self.world.tenant)
        status = {row["id"]: row["status"] for row in rows}
        for shop in self.shops:
            for job in shop.jobs:
                assert status.pop(read_global_id(job)[2]) == "DONE", job
        assert set(status.values()) <= {"DONE"}
        assert len(rows) <= sum(shop.jobs_at_most for shop in self.shops)
        for shop in self.shops[:4]:
            till = shop.devices["till"][0]
            for job in shop.jobs[-3:]:
                found = await till.ask("query ($id: ID!) { node(id: $id) { ... on Job { downloadUrl } } }", id=job)
                if address := found["node"]["downloadUrl"]:
                    file = await till.get(urlsplit(address).path)
                    assert file.status_code == 200 and file.text.count("\n") >= 1

    async def requests_are_as_acknowledged(self) -> None:
        """Nothing is lost and nothing is there twice: requests, their journal and their transfers."""
        rows = await self.world.as_owner(
            "SELECT r.id, r.status, r.amount_requested, r.amount_paid, r.amount_validated,"
            " (SELECT array_agg(j.kind) FROM journal j WHERE j.tenant = r.tenant AND j.subject_id = r.id) AS verbs,"
            " (SELECT array_agg(t.kind) FROM transfers t WHERE t.tenant = r.tenant AND t.subject_id = r.id) AS moves"
            " FROM payment_requests r WHERE r.tenant = $1",
            self.world.tenant,
        )
        found = {row["id"]: row for row in rows}
        assert len(found) == len(self.requests), "requests that nobody knows of, or too few"
        for _, request in self.requests:
            row = found[read_global_id(request.id)[2]]
            assert (row["status"], row["amount_paid"], row["amount_validated"]) == _ending(request), (
                dict(row),
                request,
            )
            self._journal_is_right(request, row)
            assert Counter(row["moves"] or ()) == _transfers(request), (dict(row), request)

    async def keys_have_one_effect(self) -> int:
        """Every acknowledged key stands once, with what was acknowledged; returns how many answers were replays."""
        rows = await self.world.as_owner(
            "SELECT key, result_id, used_at FROM idempotency_keys WHERE tenant = $1", self.world.tenant
        )
        used = {row["key"]: row for row in rows}
        acknowledged = [each for shop in self.shops for each in shop.acknowledged]
        assert set(used) == {each.key for each in acknowledged}
        replays = 0
        for each in acknowledged:
            row = used[each.key]
            if each.result_id is not None:
                assert row["result_id"] == read_global_id(each.result_id)[2]
            replays += each.sent_again is not None and row["used_at"] < each.sent_again
        return replays

    async def money_is_where_it_belongs(self) -> None:
        """Wallets and merchants add up."""
        received: Counter[str] = Counter()
        for shop in self.shops:
            spent = sum(_ending(request)[2] or 0 for request in shop.requests)
            assert await self.world.wallet(shop.customer) == WALLET - spent, shop.name
            received[_AUTO if shop.auto_validates else _PLAIN] += spent
        for code, cents in received.items():
            assert await self.world.total(self.world.merchants[code].id, "MERCHANT") == cents
            assert await self.world.total(self.world.merchants[code].id, "HELD") == 0

    async def mails_are_sent_as_one(self) -> Counter[str]:
        """Whatever was to be told was told, each thing under one Message-ID; returns what was counted."""
        told: dict[tuple[str, str], set[str]] = defaultdict(set)
        same: dict[str, tuple[str, str]] = {}
        about = {request.basket_number: request.basket_number for _, request in self.requests}
        about |= {request.transaction_number: request.basket_number for _, request in self.requests}
        for mail in self.box.mails:
            subject, identifier = str(mail["Subject"]), str(mail["Message-ID"])
            assert same.setdefault(identifier, (subject, str(mail["To"]))) == (subject, str(mail["To"]))
            body = mail.get_body(("plain",))
            assert body is not None
            baskets = {about[word] for word in re.findall(r"\b[0-9a-z]{10,32}\b", body.get_content()) if word in about}
            assert len(baskets) == 1, body.get_content()
            told[baskets.pop(), _kind_of_mail(subject)].add(identifier)
        wrong = [
            (kind, len(told[request.basket_number, kind]), request)
            for _, request in self.requests
            for kind, times in _mails(request).items()
            if len(told[request.basket_number, kind]) != times
        ]
        assert wrong == []
        assert await self.world.as_owner("SELECT * FROM dead_letters") == []
        return Counter(mails=len(self.box.mails), messages=len(same))

    def _journal_is_right(self, request: Request, row: Any) -> None:
        verbs = Counter(kind.removeprefix("preq.") for kind in row["verbs"])
        by_clock = {verb: verbs.pop(verb, 0) for verb in ("expire", "warn", "auto_validate")}
        status = _ending(request)[0]
        at_least, at_most = Counter(verb for verb, _ in request.verbs), Counter(request.perhaps)
        for verb, times in request.verbs:
            at_most[verb] += times
        assert at_least <= verbs <= at_most, (verbs, request)
        assert by_clock["expire"] == (status == EXPIRED), (by_clock, request)
        assert by_clock["auto_validate"] == (status == VALIDATED and "validate" not in verbs and request.has_window)
        assert by_clock["warn"] <= 1

    async def _left(self) -> dict[str, int]:
        """What is still to be done, by kind."""
        questions = {
            "outbox": "SELECT count(*) FROM outbox",
            "overdue deadlines": "SELECT count(*) FROM deadlines WHERE due_at <= clock_timestamp()",
            "unfinished jobs": "SELECT count(*) FROM jobs WHERE status NOT IN ('DONE', 'FAILED')",
        }
        return {name: (await self.world.as_owner(question))[0][0] for name, question in questions.items()}

    async def _open_requests(self) -> int:
        question = "SELECT count(*) FROM payment_requests WHERE status IN ('AWAITING_PAYMENT', 'TO_VALIDATE')"
        return int((await self.world.as_owner(question))[0][0])


def _ending(request: Request) -> tuple[str, int | None, int | None]:
    """Status, paid and validated once every time limit has passed."""
    if request.status == TO_VALIDATE:
        return (VALIDATED, request.paid, request.paid) if request.auto_validates else (EXPIRED, request.paid, None)
    return (EXPIRED if request.status == AWAITING else request.status), request.paid, request.validated


def _transfers(request: Request) -> Counter[str]:
    if request.paid is None:
        return Counter()
    if not request.has_window:
        return Counter(["TRANSFER"])
    return Counter(["RESERVE", "POST" if _ending(request)[0] == VALIDATED else "VOID"])


def _mails(request: Request) -> dict[str, int]:
    verbs, (status, paid, _) = [verb for verb, _ in request.verbs], _ending(request)
    return {
        "received": int(paid is not None),
        "declined": verbs.count("decline"),
        "validated": int(request.has_window and status == VALIDATED),
        "returned": int(paid is not None and status in (CANCELLED, EXPIRED)),
    }


def _kind_of_mail(subject: str) -> str:
    kinds = {
        "Paiement reçu": "received",
        "Paiement refusé": "declined",
        "a validé votre paiement": "validated",
        "vous reviennent": "returned",
        "vous demande": "asked",
        "À valider avant": "warned",
    }
    (kind,) = [kind for words, kind in kinds.items() if words in subject]
    return kind


def test_nothing_is_lost_doubled_or_stuck(servers: Servers, tmp_path: Path) -> None:
    seed = int(os.environ.get("ESCARCELLE_TEST_SEED") or secrets.randbits(32))
    print(f"ESCARCELLE_TEST_SEED={seed}")

    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            settings = settings_for(servers, box, sign_in_tries_per_minute=1_000)
            world = await World.make(servers, database)
            async with House.open(servers, settings, tmp_path) as house, shops(world, house, seed) as opened:
                started = time.monotonic()
                await soak(house, opened, random.Random(seed))
                seconds, notes = time.monotonic() - started, opened[0].notes
                print(f"{STEPS} steps in {seconds:.0f} s; {dict(Counter(house.killed))}")
                print(f"an answer took {notes.longest_wait:.1f} s at most")
                print(f"{notes.retries} retries, {notes.hedges} hedges; {dict(notes.steps)}; {dict(notes.refusals)}")
                reckoning = Reckoning(world, house, opened, box)
                print(f"nothing left to do after {await reckoning.nothing_is_stuck():.1f} s")
                await reckoning.exports_are_whole()
                await reckoning.all_has_ended()
                await reckoning.nothing_is_stuck()
                replays = await reckoning.keys_have_one_effect()
                print(f"{replays} replays")
                await reckoning.requests_are_as_acknowledged()
                await reckoning.money_is_where_it_belongs()
                print(dict(await reckoning.mails_are_sent_as_one()))
                assert house.alive()
                assert Counter(house.killed) == STRIKES
                assert notes.retries > 0, "somebody noticed"
                reader = await connect_as(servers.settings, READER)
                try:
                    assert await audit.differences(reader) == []
                finally:
                    await reader.close()

    asyncio.run(scenario())
