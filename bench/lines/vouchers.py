"""Members take vouchers, draw their codes and present them; all numbers come from one series. The limit is as many
payments, over HTTP by the same program."""

from typing import Any, Final

from bench.limit import Limit
from bench.lines.pay import CLIENTS, PROCESSES, grow, pay, rate
from bench.load import FOUND, Caller, Posted, post
from bench.measuring import Curves, Figure, Size, in_words, ratios, taking_turns
from bench.stage import Cast, Program, api, stage
from domain.access import Role
from tests.world import Servers, World

_DEEDS: Final = 3
"""Of each voucher."""


async def measure(size: Size, servers: Servers) -> list[Figure]:
    """Deeds in a second ÷ payments in a second."""
    each = size.of(30, 8)
    async with stage(servers) as on:
        cast = await Cast.make(on, CLIENTS, CLIENTS)
        members = await _members(on.world, CLIENTS)
        await grow(cast, await Limit.of(cast), size)
        with api(on.settings, PROCESSES) as program:
            legs = (
                lambda: _buy(cast, members, program, each),
                lambda: pay(cast, program, CLIENTS, _DEEDS * each),
            )
            await taking_turns(1, *legs)
            bought, paid = await taking_turns(size.rounds, *legs)
        differences = await on.differences()
    return [
        Figure(
            "vouchers",
            f"{CLIENTS} members request, reveal and deliver, deeds ÷ payments over HTTP",
            ratios([rate(leg) for leg in bought], [rate(leg) for leg in paid]),
            first=0.5,
            then=1.0,
            at_least=True,
            spent=in_words([leg.spent for leg in bought], CLIENTS * each, "voucher"),
            differences=differences,
        )
    ]


async def curve(size: Size, servers: Servers) -> Curves:
    """Deeds in a second, over clients."""
    counts = [1, 4, 16] if size.quick else [1, 2, 4, 8, 16, 32, 64]
    curves = Curves("Members take and present vouchers", "clients", "deeds/s")
    async with stage(servers) as on:
        cast = await Cast.make(on, max(counts), max(counts))
        members = await _members(on.world, max(counts))
        await grow(cast, await Limit.of(cast), size)
        with api(on.settings, PROCESSES) as program:
            for clients in counts:
                each = max(8, size.of(600, 30) // clients)
                for _ in range(2):
                    bought = await _buy(cast, members[:clients], program, each)
                    paid = await pay(cast, program, clients, _DEEDS * each)
                curves.add("vouchers", clients, rate(bought))
                curves.add("payments", clients, rate(paid))
    return curves


async def _members(world: World, count: int) -> list[str]:
    """Their sessions."""
    await world.voucher_kind()
    sessions = []
    for n in range(count):
        await world.member(f"member{n}", f"Martin {n}")
        await world.user(f"member{n}", Role.HOLDER, holder=f"member{n}")
        sessions.append(await world.session(f"member{n}"))
    return sessions


async def _buy(cast: Cast, members: list[str], program: Program, each: int) -> Posted:
    """So many vouchers for each member. Raises RuntimeError when one is refused."""
    supplier = cast.stage.world.merchants["M0"].global_id
    callers = []
    for session in members:
        bodies: list[Any] = []
        for _ in range(each):
            cast.next += 1
            bodies += [_asked(supplier, str(cast.next)), _step("revealVoucherCode"), _step("deliverVoucher")]
        callers.append(Caller(session, bodies))
    processes = {"API": program.process, "PostgreSQL": cast.stage.postgres}
    posted = await post(program.port, callers, '"id":"vchr_', **processes)
    if posted.failures:
        raise RuntimeError(f"{len(posted.failures)} deeds failed: {posted.failures[0]}")
    return posted


_VOUCHER: Final = (
    "{ __typename ... on Voucher { id status number value { amount } presentation { secretCode } allowedActions }"
    " ... on Refusal { code message problems { path message } } }"
)


def _asked(supplier: str, key: str) -> dict[str, Any]:
    query = (
        "mutation Ask($input: RequestVoucherInput!, $key: ID!)"
        f" {{ requestVoucher(input: $input, idempotencyKey: $key) {_VOUCHER} }}"
    )
    return {"query": query, "variables": {"input": {"supplierId": supplier, "amount": "12.50"}, "key": f"v{key}"}}


def _step(mutation: str) -> dict[str, Any]:
    query = f"mutation Step($input: VoucherIdInput!) {{ {mutation}(input: $input) {_VOUCHER} }}"
    return {"query": query, "variables": {"input": {"id": FOUND}}}
