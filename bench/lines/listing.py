"""A page of 50 requests over HTTP, nested, with its counters. The limit is what one would write by hand for this page
alone: two questions in SQL, and orjson. Both must say the same, to the letter."""

import base64
import time
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from bench.load import Caller, Posted, post
from bench.measuring import Curves, Figure, Size, Spent, Watch, in_words, ratios, taking_turns
from bench.stage import Cast, Program, api, stage
from domain import payments
from domain.codes import global_id
from domain.db import APP, connect_as
from domain.parties import PointOfSale
from domain.payments import PaymentRequest
from domain.work import perform
from escarcelle.clients import Client
from tests.world import Servers

ROWS: Final = 50


async def measure(size: Size, servers: Servers) -> list[Figure]:
    """CPU of a page over HTTP ÷ CPU of the same by hand; PostgreSQL's is not counted in, since both ask the same of
    it."""
    pages = size.of(200, 30)
    async with stage(servers) as on:
        cast = await _filled(Cast.make(on, 1, 1), size)
        session = await on.world.session("merchant0")
        with api(on.settings) as program:
            posted = await _post(cast, program, session, 20, 1)
            by_hand = await _ByHand.make(cast)
            await _same(cast, program, session, await by_hand.page())
            over_http, raw = await taking_turns(
                size.rounds,
                lambda: _over_http(cast, program, session, pages),
                lambda: by_hand.pages(pages),
            )
            await by_hand.close()
        differences = await on.differences()
    return [
        Figure(
            "list",
            f"{ROWS} requests over HTTP, {posted.answer_bytes / 1000:.1f} kB ÷ raw SQL and orjson, CPU",
            ratios([spent.by["API"] for spent in over_http], [spent.by["by hand"] for spent in raw]),
            first=17,
            then=2,
            at_least=False,
            spent=f"{in_words(over_http, pages, 'page')}; by hand: {in_words(raw, pages, 'page')}",
            differences=differences,
        )
    ]


async def curve(size: Size, servers: Servers) -> Curves:
    """Pages in a second, over clients."""
    curves = Curves("A page of 50 requests over HTTP", "clients", "pages/s")
    async with stage(servers) as on:
        cast = await _filled(Cast.make(on, 1, 1), size)
        session = await on.world.session("merchant0")
        with api(on.settings, 1) as one, api(on.settings, 2) as two:
            for clients in (1, 4, 16) if size.quick else (1, 2, 4, 8, 16, 32, 64):
                pages = max(4, size.of(600, 40) // clients)
                for name, program in (("1 process", one), ("2 processes", two)):
                    await _post(cast, program, session, 2, clients)
                    began = time.monotonic()
                    posted = await _post(cast, program, session, pages, clients)
                    ended = max(ends[-1] for ends in posted.ends)
                    curves.add(name, clients, pages * clients / (ended - began))
    return curves


async def _filled(making: Any, size: Size) -> Cast:
    """A merchant with some thousands of requests, each tenth of them paid."""
    cast: Cast = await making
    requests = size.of(5_000, 300)
    first = await cast.ask(1, requests)
    customer, database = cast.customers[0].actor, cast.stage.database
    for number in range(first, first + requests, 10):
        await perform(database, customer, payments.pay, f"{number:012}")
    await cast.stage.settle()
    return cast


async def _post(cast: Cast, program: Program, session: str, pages: int, clients: int) -> Posted:
    place = global_id(PointOfSale.prefix, cast.stage.world.tenant, cast.places[0])
    body = {"query": _LIST, "variables": {"place": place}}
    callers = [Caller(session, [body] * pages)] * clients
    processes = {"API": program.process, "PostgreSQL": cast.stage.postgres}
    posted = await post(program.port, callers, '"hasNextPage":true', **processes)
    if posted.failures:
        raise RuntimeError(posted.failures[0])
    return posted


async def _over_http(cast: Cast, program: Program, session: str, pages: int) -> Spent:
    return (await _post(cast, program, session, pages, 1)).spent


async def _same(cast: Cast, program: Program, session: str, by_hand: bytes) -> None:
    """Raises RuntimeError when the API says something else than what was made by hand."""
    place = global_id(PointOfSale.prefix, cast.stage.world.tenant, cast.places[0])
    async with Client(program.url) as client:
        client.token = session
        answer = await client.post({"query": _LIST, "variables": {"place": place}})
    if answer.json() != orjson.loads(by_hand):
        raise RuntimeError(f"the page made by hand is another one: {by_hand[:900]!r} instead of {answer.text[:900]}")


class _ByHand:
    """The page, as one would write it for itself."""

    def __init__(self, connection: asyncpg.Connection, tenant: int, place: str, merchant: str) -> None:
        self._connection = connection
        self._tenant = tenant
        self._place = place
        self._merchant = merchant

    @classmethod
    async def make(cls, cast: Cast) -> "_ByHand":
        """A connection of its own, as the application's role."""
        manager = cast.manager
        connection = await connect_as(cast.stage.settings, APP)
        return cls(connection, cast.stage.world.tenant, str(cast.places[0]), str(manager.merchant_id))

    async def pages(self, count: int) -> Spent:
        """Make the page so many times."""
        watch, before = Watch(), time.process_time()
        for _ in range(count):
            await self.page()
        taken = time.process_time() - before
        return Spent({"by hand": taken}, watch.stop().seconds)

    async def page(self) -> bytes:
        """The page as JSON."""
        connection = self._connection
        await connection.execute(f"BEGIN; SET LOCAL app.tenant = '{self._tenant:d}'")
        rows = await connection.fetch(_PAGE, self._place, self._merchant, self._tenant)
        to_validate, awaiting = (await connection.fetch(_COUNTERS, self._place, self._merchant, self._tenant))[0]
        await connection.execute("COMMIT")
        shown = rows[:ROWS]
        page = {
            "counters": {"toValidate": to_validate, "awaitingPayment": awaiting},
            "pageInfo": {"hasNextPage": len(rows) > ROWS, "endCursor": _cursor(shown[-1])},
            "nodes": [self._node(row) for row in shown],
        }
        return orjson.dumps({"data": {"paymentRequests": page}})

    def _node(self, row: asyncpg.Record) -> dict[str, Any]:
        waits = row["status"] == "AWAITING_PAYMENT"
        received = row["amount_validated"] if row["status"] == "VALIDATED" else None
        paid = row["amount_paid"]
        return {
            "id": global_id(PaymentRequest.prefix, self._tenant, row["id"]),
            "status": row["status"],
            "statusLabel": _STATUS[row["status"]],
            "typeLabel": "Paiement immédiat",
            "basketNumber": row["basket_number"],
            "transactionNumber": row["transaction_number"],
            "amountRequested": _money(row["amount_requested"]),
            "amountPaid": _money(paid),
            "amountReceived": _money(received),
            "paymentDeadline": row["payment_deadline"].isoformat(),
            "label": row["label"],
            "customerReference": row["customer_reference"],
            "lastActionAt": row["last_action_at"].isoformat(),
            "allowedActions": ["CANCEL", "CHANGE_COLLECTION", "PRINT"] if waits else [],
            "pointOfSale": {
                "id": global_id(PointOfSale.prefix, self._tenant, row["place_id"]),
                "code": row["place_code"],
                "name": row["place_name"],
            },
        }

    async def close(self) -> None:
        """Let go of the connection."""
        await self._connection.close()


def _money(cents: int | None) -> dict[str, str] | None:
    if cents is None:
        return None
    amount = f"{cents // 100}.{cents % 100:02}"
    return {"amount": amount, "formatted": f"{amount.replace('.', ',')}\u00a0€"}


def _cursor(row: asyncpg.Record) -> str:
    at: datetime = row["last_action_at"]
    plain = orjson.dumps([at.isoformat(), str(row["id"])]).replace(b",", b", ")
    return base64.urlsafe_b64encode(plain).decode().rstrip("=")


_STATUS: Final = {"AWAITING_PAYMENT": "En attente de paiement client", "VALIDATED": "Validé"}

_LIST: Final = """
query List($place: ID!) {
  paymentRequests(pointOfSaleId: $place, first: 50) {
    counters { toValidate awaitingPayment }
    pageInfo { hasNextPage endCursor }
    nodes {
      id status statusLabel typeLabel basketNumber transactionNumber
      amountRequested { amount formatted } amountPaid { amount formatted } amountReceived { amount formatted }
      paymentDeadline label customerReference lastActionAt allowedActions
      pointOfSale { id code name }
    }
  }
}
"""

_STATUS_NOW: Final = (
    "CASE WHEN r.status = 'AWAITING_PAYMENT' AND r.payment_deadline <= (SELECT tenant_clock($3)) THEN 'EXPIRED'"
    " WHEN r.status = 'TO_VALIDATE' AND r.validation_deadline <= (SELECT tenant_clock($3))"
    " THEN CASE WHEN r.auto_validation THEN 'VALIDATED' ELSE 'EXPIRED' END ELSE r.status END"
)

_PAGE: Final = f"""
SELECT r.id, {_STATUS_NOW} AS status, r.basket_number, r.transaction_number, r.amount_requested, r.amount_paid,
  r.amount_validated, r.payment_deadline, r.label, r.customer_reference, r.last_action_at,
  p.id AS place_id, p.code AS place_code, p.name AS place_name
FROM payment_requests r LEFT JOIN points_of_sale p ON p.id = r.point_of_sale_id
WHERE r.point_of_sale_id = $1::uuid AND r.merchant_id = $2::uuid ORDER BY r.last_action_at DESC, r.id DESC LIMIT 51
"""

_COUNTERS: Final = f"""
SELECT count(*) FILTER (WHERE status = 'TO_VALIDATE'), count(*) FILTER (WHERE status = 'AWAITING_PAYMENT')
FROM (SELECT {_STATUS_NOW} AS status FROM payment_requests r
      WHERE r.status IN ('AWAITING_PAYMENT', 'TO_VALIDATE') AND r.point_of_sale_id = $1::uuid
        AND r.merchant_id = $2::uuid) AS open
"""
