"""Everybody pays one merchant: a merchant's total is derived, so that no row of its own is waited for."""

from bench.limit import Limit
from bench.lines.pay import CLIENTS, PROCESSES, grow, pay, rate
from bench.measuring import Curves, Figure, Size, in_words, ratios, taking_turns
from bench.stage import Cast, api, stage
from tests.world import Servers


async def measure(size: Size, servers: Servers) -> list[Figure]:
    """Payments in a second to one merchant ÷ spread over many."""
    each = size.of(80, 25)
    async with stage(servers) as on:
        cast = await Cast.make(on, CLIENTS, CLIENTS)
        await grow(cast, await Limit.of(cast), size)
        with api(on.settings, PROCESSES) as program:
            legs = (
                lambda: pay(cast, program, CLIENTS, each, one_merchant=True),
                lambda: pay(cast, program, CLIENTS, each),
            )
            await taking_turns(1, *legs)
            to_one, to_many = await taking_turns(size.rounds, *legs)
        differences = await on.differences()
    return [
        Figure(
            "busy-merchant",
            f"{CLIENTS} clients pay one merchant ÷ {CLIENTS} merchants",
            ratios([rate(leg) for leg in to_one], [rate(leg) for leg in to_many]),
            first=0.9,
            then=0.95,
            at_least=True,
            spent=in_words([leg.spent for leg in to_one], CLIENTS * each, "payment"),
            differences=differences,
        )
    ]


async def curve(size: Size, servers: Servers) -> Curves:
    """Payments in a second, over clients."""
    counts = [1, 4, 16] if size.quick else [1, 2, 4, 8, 16, 32, 64]
    curves = Curves("Payments to one merchant, and to many", "clients", "payments/s")
    async with stage(servers) as on:
        cast = await Cast.make(on, max(counts), max(counts))
        await grow(cast, await Limit.of(cast), size)
        with api(on.settings, PROCESSES) as program:
            for clients in counts:
                each = max(25, size.of(2000, 100) // clients)
                for _ in range(2):
                    to_one = await pay(cast, program, clients, each, one_merchant=True)
                    to_many = await pay(cast, program, clients, each)
                curves.add("one merchant", clients, rate(to_one))
                curves.add("many", clients, rate(to_many))
    return curves
