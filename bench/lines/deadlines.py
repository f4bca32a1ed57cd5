"""Looking for what is due, while ten times as many deadlines wait. Two servers are asked in turns."""

import statistics
import time
from typing import Final

from bench.measuring import Curves, Figure, Size, ratios, taking_turns
from bench.stage import Stage, stage
from tasks.relay import Relay
from tests.world import Servers

SERVERS: Final = 2
_DUE: Final = 100
_PIECE: Final = 1_000_000

_FILL: Final = """
INSERT INTO deadlines (tenant, subject_kind, subject_id, name, due_at, claim_at, sends)
SELECT $1, 'preq', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'expire', at, at, 0
FROM (SELECT n, now() + interval '1 day' + n * 7919 % 31536000 * interval '1 second' AS at
      FROM generate_series($2::bigint, $3::bigint) AS n) AS waiting
"""


async def measure(size: Size, few: Servers, many: Servers) -> list[Figure]:
    """One look ÷ one look."""
    small, polls = size.of(1_000_000, 100_000), size.of(500, 100)
    async with stage(few) as on_few, stage(many) as on_many:
        await _fill(on_few, 0, small)
        await _fill(on_many, 0, 10 * small)
        looks = Relay(on_few.settings), Relay(on_many.settings)
        with_few, with_many = await taking_turns(
            size.rounds, lambda: _look(looks[0], polls), lambda: _look(looks[1], polls)
        )
        due_few, due_many = await taking_turns(
            size.rounds, lambda: _due(on_few, looks[0]), lambda: _due(on_many, looks[1])
        )
    median = statistics.median
    return [
        Figure(
            "deadlines",
            f"looking for what is due while {10 * small:,} deadlines wait ÷ {small:,}",
            ratios(with_many, with_few),
            first=1.5, then=1.2, at_least=False,
            spent=f"{1000 * median(with_many):.2f} and {1000 * median(with_few):.2f} ms a look; handing on {_DUE} that"
            f" are due {1000 * median(due_many):.1f} and {1000 * median(due_few):.1f} ms",
        )
    ]  # fmt: skip


async def curve(size: Size, few: Servers, many: Servers) -> Curves:
    """One look, over how many wait."""
    del few
    curves = Curves("Looking for what is due", "deadlines that wait", "ms a look")
    async with stage(many) as on:
        relay, filled = Relay(on.settings), 0
        for count in (10_000, 100_000) if size.quick else (10_000, 100_000, 1_000_000, 10_000_000):
            await _fill(on, filled, count)
            filled = count
            curves.add("nothing is due", count, 1000 * await _look(relay, size.of(500, 100)))
            curves.add(f"{_DUE} are due", count, 1000 * await _due(on, relay))
    return curves


async def _fill(on: Stage, already: int, count: int) -> None:
    for begins in range(already, count, _PIECE):
        await on.world.as_owner(_FILL, on.world.tenant, begins + 1, min(begins + _PIECE, count))
    await on.settle()


async def _look(relay: Relay, polls: int) -> float:
    """The median of some looks that find nothing, in seconds."""
    while await relay.hand_on():
        pass
    taken = []
    for _ in range(polls):
        began = time.perf_counter()
        found = await relay.hand_on()
        taken.append(time.perf_counter() - began)
        assert not found, "nothing is due"
    return statistics.median(taken)


async def _due(on: Stage, relay: Relay) -> float:
    """How long it takes to hand on a batch that is due, in seconds."""
    await on.world.as_owner(
        "UPDATE deadlines SET claim_at = now() WHERE tenant = $1 AND subject_id = ANY("
        " SELECT subject_id FROM deadlines WHERE tenant = $1 ORDER BY subject_id LIMIT $2)",
        on.world.tenant, _DUE,
    )  # fmt: skip
    began = time.perf_counter()
    found = await relay.hand_on()
    taken = time.perf_counter() - began
    assert found == _DUE, "all that are due"
    return taken
