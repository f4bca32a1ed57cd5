"""A customer pays over HTTP, with everything on: rules, key, tenant wall, journal, outbox. The limit is pgbench, which
makes the same rows by the same statements, on the same server, in turns."""

from bench.limit import Limit, Ran
from bench.load import Caller, Posted, post
from bench.measuring import Curves, Figure, Size, in_words, ratios, steady_rate, taking_turns
from bench.stage import Cast, Program, api, pay_body, stage, token
from tests.world import Servers

CLIENTS = 32
PROCESSES = 2
"""API processes that count: as many as there are cores."""


async def measure(size: Size, servers: Servers) -> list[Figure]:
    """Payments in a second ÷ pgbench's, with as many API processes as count, and with one."""
    each = size.of(80, 25)
    async with stage(servers) as on:
        cast = await Cast.make(on, CLIENTS, CLIENTS)
        limit = await Limit.of(cast)
        await grow(cast, limit, size)
        with api(on.settings, 1) as one, api(on.settings, PROCESSES) as several:
            legs = (
                lambda: _limit(cast, limit, CLIENTS, each),
                lambda: pay(cast, several, CLIENTS, each),
                lambda: pay(cast, one, CLIENTS, each),
            )
            await taking_turns(1, *legs)
            limits, by_several, by_one = await taking_turns(size.rounds, *legs)
        differences = await on.differences()
    most = [rate(ran) for ran in limits]
    count = CLIENTS * each

    def figure(name: str, processes: str, legs: list[Ran | Posted]) -> Figure:
        spent = in_words([leg.spent for leg in legs], count, "payment")
        rates = sorted(rate(leg) for leg in legs)
        per_second = f"{rates[len(rates) // 2]:.0f} of {sorted(most)[len(most) // 2]:.0f} payments/s"
        limit_spent = in_words([leg.spent for leg in limits], count, "payment")
        return Figure(
            name,
            f"a payment over HTTP by {CLIENTS} clients ({processes}) ÷ pgbench of the same statements",
            ratios([rate(leg) for leg in legs], most),
            first=0.5,
            then=1.0,
            at_least=True,
            spent=f"{per_second}; {spent}; pgbench's {limit_spent}",
            differences=differences,
        )

    return [
        figure("pay", f"{PROCESSES} API processes", by_several),
        figure("pay-one-process", "1 API process", by_one),
    ]


async def curve(size: Size, servers: Servers) -> Curves:
    """Payments in a second, over clients."""
    counts = [1, 4, 16] if size.quick else [1, 2, 4, 8, 16, 32, 64]
    curves = Curves("A customer pays", "clients", "payments/s")
    async with stage(servers) as on:
        cast = await Cast.make(on, max(counts), max(counts))
        limit = await Limit.of(cast)
        await grow(cast, limit, size)
        with api(on.settings, 1) as one, api(on.settings, PROCESSES) as several:
            for clients in counts:
                each = max(25, size.of(2000, 100) // clients)
                for _ in range(2):
                    by_limit = await _limit(cast, limit, clients, each)
                    by_several = await pay(cast, several, clients, each)
                    by_one = await pay(cast, one, clients, each)
                curves.add("pgbench", clients, rate(by_limit))
                curves.add(f"{PROCESSES} processes", clients, rate(by_several))
                curves.add("1 process", clients, rate(by_one))
    return curves


async def grow(cast: Cast, limit: Limit, size: Size) -> None:
    """Payments that were made before, and requests that go on waiting: on empty tables PostgreSQL has less to do, and
    plans that read a whole table."""
    each = size.of(400, 100)
    await _limit(cast, limit, CLIENTS, each)
    await cast.ask(CLIENTS, each)
    await cast.stage.settle()


async def pay(cast: Cast, program: Program, clients: int, each: int, *, one_merchant: bool = False) -> Posted:
    """Fresh requests, paid over HTTP. Raises RuntimeError when one is not."""
    first = await cast.ask(clients, each, one_merchant=one_merchant)
    callers = [
        Caller(customer.session, [pay_body(token(n), token(n)) for n in range(begins, begins + each)])
        for customer, begins in zip(cast.customers, range(first, first + clients * each, each), strict=False)
    ]
    processes = {"API": program.process, "PostgreSQL": cast.stage.postgres}
    posted = await post(program.port, callers[:clients], '"status":"VALIDATED"', **processes)
    if posted.failures:
        raise RuntimeError(f"{len(posted.failures)} payments failed: {posted.failures[0]}")
    return posted


def rate(leg: Ran | Posted) -> float:
    """How many in a second, warmed up."""
    return steady_rate(leg.ends)


async def _limit(cast: Cast, limit: Limit, clients: int, each: int) -> Ran | Posted:
    first = await cast.ask(clients, each)
    ran = await limit.run(first, clients, each, PostgreSQL=cast.stage.postgres)
    unpaid = await cast.unpaid(first, clients * each)
    if unpaid:
        raise RuntimeError(f"pgbench left {unpaid} requests unpaid")
    return ran
