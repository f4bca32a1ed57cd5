"""Every verb × every status × every flow, the whole table; statuses are reached by real deeds."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from domain import payments
from domain.access import Actor
from domain.codes import read_global_id
from domain.parties import credit_holder
from domain.payments import PaymentRequest, PaymentRequestStatus
from domain.work import perform
from tests.flows.cast import Cast, assembled
from tests.matrix import audited, connections, outcome
from tests.world import Running, Servers

pytestmark = pytest.mark.anyio

VERBS = ("pay", "decline", "change_collection", "validate", "cancel", "expire", "warn")
CHANGES = {"VALIDATED", "TO_VALIDATE", "AWAITING_PAYMENT", "CANCELLED", "EXPIRED", "told"}
ASKED_AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
FLOWS: dict[str, dict[str, Any]] = {
    "A": {},
    "B": {"paymentDeadline": "2026-03-05", "customerIdentifier": "ines@example.com"},
    "C": {"validationDays": 2, "customerIdentifier": "ines"},
    "D": {"paymentDeadline": "2026-03-05", "validationDays": 2, "customerIdentifier": "ines@example.com"},
    "C by itself": {"validationDays": 2, "customerIdentifier": "ines"},
}

STATUS_OF = {
    "waiting": "AWAITING_PAYMENT",
    "too late to pay": "EXPIRED",
    "expired unpaid": "EXPIRED",
    "to validate": "TO_VALIDATE",
    "a day left to do so": "TO_VALIDATE",
    "too late to validate": "EXPIRED",
    "expired paid": "EXPIRED",
    "the window is over": "VALIDATED",
    "validated by itself": "VALIDATED",
    "validated": "VALIDATED",
    "cancelled": "CANCELLED",
    "declined": "CANCELLED",
    "given back": "CANCELLED",
}
"""Three of them are so by the clock alone: nothing has swept them yet."""

TABLES = {
    "A": """
                     | pay         | decline     | change_collection | validate    | cancel      | expire  | warn
waiting              | VALIDATED   | CANCELLED   | AWAITING_PAYMENT  | WRONG_STATE | CANCELLED   | nothing | nothing
too late to pay      | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | EXPIRED | nothing
expired unpaid       | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | nothing | nothing
validated            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
cancelled            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
declined             | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
""",
    "B": """
                     | pay         | decline     | change_collection | validate    | cancel      | expire  | warn
waiting              | VALIDATED   | CANCELLED   | AWAITING_PAYMENT  | WRONG_STATE | CANCELLED   | nothing | nothing
too late to pay      | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | EXPIRED | nothing
expired unpaid       | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | nothing | nothing
validated            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
cancelled            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
declined             | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
""",
    "C": """
                     | pay         | decline     | change_collection | validate    | cancel      | expire  | warn
waiting              | TO_VALIDATE | CANCELLED   | AWAITING_PAYMENT  | WRONG_STATE | CANCELLED   | nothing | nothing
too late to pay      | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | EXPIRED | nothing
expired unpaid       | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | nothing | nothing
to validate          | WRONG_STATE | WRONG_STATE | WRONG_STATE       | VALIDATED   | CANCELLED   | nothing | nothing
a day left to do so  | WRONG_STATE | WRONG_STATE | WRONG_STATE       | VALIDATED   | CANCELLED   | nothing | told
too late to validate | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | EXPIRED | called off
expired paid         | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | nothing | nothing
validated            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
cancelled            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
declined             | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
given back           | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
""",
    "D": """
                     | pay         | decline     | change_collection | validate    | cancel      | expire  | warn
waiting              | TO_VALIDATE | CANCELLED   | AWAITING_PAYMENT  | WRONG_STATE | CANCELLED   | nothing | nothing
too late to pay      | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | EXPIRED | nothing
expired unpaid       | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | nothing | nothing
to validate          | WRONG_STATE | WRONG_STATE | WRONG_STATE       | VALIDATED   | CANCELLED   | nothing | nothing
a day left to do so  | WRONG_STATE | WRONG_STATE | WRONG_STATE       | VALIDATED   | CANCELLED   | nothing | told
too late to validate | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | EXPIRED | called off
expired paid         | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | nothing | nothing
validated            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
cancelled            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
declined             | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
given back           | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing | nothing
""",
    "C by itself": """
                    | pay         | decline     | change_collection | validate    | cancel      | expire    | warn
waiting             | TO_VALIDATE | CANCELLED   | AWAITING_PAYMENT  | WRONG_STATE | CANCELLED   | nothing   | nothing
too late to pay     | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | EXPIRED   | nothing
expired unpaid      | TOO_LATE    | TOO_LATE    | TOO_LATE          | TOO_LATE    | TOO_LATE    | nothing   | nothing
to validate         | WRONG_STATE | WRONG_STATE | WRONG_STATE       | VALIDATED   | CANCELLED   | nothing   | nothing
a day left to do so | WRONG_STATE | WRONG_STATE | WRONG_STATE       | VALIDATED   | CANCELLED   | nothing   | told
the window is over  | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | VALIDATED | called off
validated by itself | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing   | nothing
validated           | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing   | nothing
cancelled           | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing   | nothing
declined            | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing   | nothing
given back          | WRONG_STATE | WRONG_STATE | WRONG_STATE       | WRONG_STATE | WRONG_STATE | nothing   | nothing
""",
}
"""Flow → status × verb → the new status, the code of the refusal, or of what the clock fires: `nothing`, `told`, or
`called off` when the warning is no longer wanted."""


@dataclass
class Stage:
    """The cast, whose clock stands still."""

    cast: Cast
    system: Actor
    numbers: "count[int]"


@dataclass(frozen=True)
class Asked:
    """A payment request in some status."""

    id: str
    token: str

    @property
    def uuid(self) -> UUID:
        """Its identifier in the domain."""
        return read_global_id(self.id)[2]


@pytest.fixture(scope="module")
async def stage(servers: Servers, running: Running) -> AsyncIterator[Stage]:
    """The cast, once for the whole table."""
    async with connections(servers) as database, audited(servers, database) as world, assembled(world, running) as cast:
        await perform(database, world.system, credit_holder, world.holders["ines"].id, "5000,00", "aide")
        yield Stage(cast, Actor(world.tenant), count(1))


def _read(table: str) -> dict[str, dict[str, str]]:
    """A row for each state: verb → what comes of it."""
    head, *lines = ([cell.strip() for cell in line.split("|")] for line in table.strip("\n").splitlines())
    assert tuple(head[1:]) == VERBS
    return {line[0]: dict(zip(VERBS, line[1:], strict=True)) for line in lines}


def test_the_tables_name_every_verb_and_every_status() -> None:
    """`reserve` is `pay` with a window; what expires may be validated by itself."""
    assert set(payments.LIFE.verbs) - {"reserve", "auto_validate"} == set(VERBS) - {"warn"}
    assert set(STATUS_OF.values()) == set(PaymentRequestStatus)
    assert {state for table in TABLES.values() for state in _read(table)} == set(STATUS_OF)


def _cases() -> Iterator[Any]:
    for flow, table in TABLES.items():
        for state in _read(table):
            yield pytest.param(flow, state)


@pytest.mark.parametrize(("flow", "state"), list(_cases()))
async def test_every_verb(stage: Stage, flow: str, state: str) -> None:
    expected = _read(TABLES[flow])[state]
    request = await _reach(stage, flow, state)
    await _shows(stage, request, state, expected)
    found = {}
    before = await stage.cast.world.digest()
    for verb in VERBS:
        found[verb] = await _do(stage, verb, request)
        after = await stage.cast.world.digest()
        changed = {name for name in before if before[name] != after[name]}
        before = after
        if found[verb] in CHANGES:
            assert "journal" in changed, verb
            request = await _reach(stage, flow, state)
            before = await stage.cast.world.digest()
        elif found[verb] == "nothing" and changed == {"deadlines"}:
            found[verb] = "called off"
        else:
            assert changed == set(), f"{verb} is refused: {found[verb]}"
    assert found == expected


async def _reach(stage: Stage, flow: str, state: str) -> Asked:
    """A new request, brought into the state by what people and the clock do."""
    cast, world = stage.cast, stage.cast.world
    await world.freeze(ASKED_AT)
    await cast.agent.do(
        "updateMerchant",
        "... on Merchant { id }",
        id=world.merchants["708900"].global_id,
        autoValidation=flow == "C by itself",
    )
    asked = await cast.till.do(
        "createPaymentRequest",
        "... on PaymentRequest { id }",
        pointOfSaleId=world.places["P001"].global_id,
        amount="20,00",
        basketNumber=f"{flow} {next(stage.numbers)}",
        **FLOWS[flow],
    )
    rows = await world.as_owner(
        "SELECT token FROM payment_requests WHERE tenant = $1 AND id = $2", world.tenant, read_global_id(asked["id"])[2]
    )
    request = Asked(asked["id"], rows[0]["token"])
    for step in _STEPS[state] if "validationDays" in FLOWS[flow] or state != "validated" else ("pay",):
        match step:
            case "paymentDeadline" | "validationDeadline":
                await world.freeze(await _instant(cast, request, step))
            case "a day before":
                await world.freeze(await _instant(cast, request, "validationDeadline") - timedelta(days=1))
            case verb:
                assert await _do(stage, verb, request) in CHANGES, verb
    return request


_STEPS: dict[str, tuple[str, ...]] = {
    "waiting": (),
    "too late to pay": ("paymentDeadline",),
    "expired unpaid": ("paymentDeadline", "expire"),
    "to validate": ("pay",),
    "a day left to do so": ("pay", "a day before"),
    "too late to validate": ("pay", "validationDeadline"),
    "expired paid": ("pay", "validationDeadline", "expire"),
    "the window is over": ("pay", "validationDeadline"),
    "validated by itself": ("pay", "validationDeadline", "expire"),
    "validated": ("pay", "validate"),
    "cancelled": ("cancel",),
    "declined": ("decline",),
    "given back": ("pay", "cancel"),
}


async def _instant(cast: Cast, request: Asked, deadline: str) -> datetime:
    question = f"query ($id: ID!) {{ node(id: $id) {{ ... on PaymentRequest {{ {deadline} }} }} }}"
    return datetime.fromisoformat((await cast.till.ask(question, id=request.id))["node"][deadline])


async def _do(stage: Stage, verb: str, request: Asked) -> str:
    if verb in ("expire", "warn"):
        deed = payments.expire if verb == "expire" else payments.warn
        done = await perform(stage.cast.world.database, stage.system, deed, request.uuid)
        return "nothing" if not isinstance(done, PaymentRequest) else "told" if verb == "warn" else str(done.status)
    by = stage.cast.ines if verb in ("pay", "decline") else stage.cast.till
    given = {"token": request.token} if verb in ("pay", "decline") else {"id": request.id}
    if verb == "change_collection":
        # Inès again, so that she can go on.
        return await outcome(by, "changePaymentCollection", **given, customerIdentifier="ines@example.com")
    return await outcome(by, f"{verb}PaymentRequest", **given)


async def _shows(stage: Stage, request: Asked, state: str, expected: dict[str, str]) -> None:
    """Both sides see the status, and are offered what the table allows."""
    seen = await stage.cast.till.ask(
        "query ($id: ID!, $token: String!) { node(id: $id) { ... on PaymentRequest { status allowedActions } }"
        " paymentOffer(token: $token) { status allowedActions } }",
        id=request.id,
        token=request.token,
    )
    assert {seen["node"]["status"], seen["paymentOffer"]["status"]} == {STATUS_OF[state]}
    offered = {*seen["node"]["allowedActions"], *seen["paymentOffer"]["allowedActions"]}
    for verb in ("pay", "decline", "validate", "cancel"):
        assert (verb.upper() in offered) == (expected[verb] in CHANGES), verb
