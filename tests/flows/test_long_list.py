"""A list that is long: the manual's merchants have had years of operations."""

from collections.abc import Iterator

import pytest

from domain.access import Role
from domain.db import Database
from tests.flows.cast import REQUEST
from tests.world import Running, Servers, World, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def process(servers: Servers) -> Iterator[Running]:
    """The API in a process of its own: it need not share this one's time."""
    with serving(servers) as running:
        yield running


async def test_P6_100_000_requests_are_paged_through_while_others_come(
    servers: Servers, database: Database, process: Running
) -> None:
    """Each one once, in order, whatever is asked for meanwhile."""
    world = await World.make(servers, database)
    await world.merchant("CK", "Canoë Kayak Club", {"P001": "Base nautique"})
    manager = await world.user("club", Role.MERCHANT_MANAGER, merchant="CK")
    await world.as_owner(
        """
        INSERT INTO payment_requests (tenant, id, flow, status, merchant_id, point_of_sale_id, basket_number,
          amount_requested, collection, token, transaction_number, payment_deadline, created_by, created_at,
          last_action_at, version)
        SELECT $1, gen_random_uuid(), 'IMMEDIATE', 'CANCELLED', $2, $3, 'REF' || n, 2000 + n % 7, 'QR_CODE',
               'list ' || n, 'list ' || n, now(), $4, now() - n / 3 * interval '1 second',
               now() - n / 3 * interval '1 second', 1
        FROM generate_series(1, 100000) AS n
        """,
        world.tenant, world.merchants["CK"].id, world.places["P001"].id, manager.user_id,
    )  # fmt: skip
    await world.as_owner("ANALYZE payment_requests")
    page = (
        "query ($after: String) { paymentRequests(first: 200, after: $after)"
        " { nodes { basketNumber } pageInfo { endCursor hasNextPage } } }"
    )
    found: list[str] = []
    async with await process.client(world, "club") as till:
        after, more = None, True
        while more:
            listed = (await till.ask(page, after=after))["paymentRequests"]
            found += [node["basketNumber"] for node in listed["nodes"]]
            after, more = listed["pageInfo"]["endCursor"], listed["pageInfo"]["hasNextPage"]
            if len(found) % 10_000 == 0:
                asked = await till.do(
                    "createPaymentRequest",
                    REQUEST,
                    pointOfSaleId=world.places["P001"].global_id,
                    amount="20,03",
                    basketNumber=f"new {len(found)}",
                )
                assert asked["status"] == "AWAITING_PAYMENT"
    assert [basket for basket in found if basket.startswith("new")] == []
    assert len(found) == len(set(found)) == 100_000
    ages = [int(basket.removeprefix("REF")) // 3 for basket in found]
    assert ages == sorted(ages)
    # They have no history, so that no audit is to find them.
    await world.as_owner("DELETE FROM payment_requests WHERE tenant = $1 AND token LIKE 'list %'", world.tenant)
