"""What every line is measured with: legs that take turns, medians, the CPU of process trees, and what a figure says."""

import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. `quick` is for looking whether it runs: its figures mean little."""

    rounds: int = 5
    quick: bool = False

    def of(self, whole: int, quick: int) -> int:
        """The one number or the other."""
        return quick if self.quick else whole


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a line: a ratio for each round, what is aimed at first and then, and what was spent.
    `differences` is what the audit found afterwards, None where there is nothing to audit."""

    name: str
    says: str
    ratios: Sequence[float]
    first: float
    then: float
    at_least: bool
    spent: str = ""
    differences: Sequence[str] | None = None

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.ratios)

    @property
    def is_ok(self) -> bool:
        """Whether the first target is met, and the books agree: fast and wrong is not fast."""
        return (self.ratio >= self.first if self.at_least else self.ratio <= self.first) and not self.differences

    @property
    def audit(self) -> str | None:
        """What the audit said."""
        if self.differences is None:
            return None
        return "ok" if not self.differences else f"{len(self.differences)} differences"

    def target(self, value: float) -> str:
        """A target, written."""
        return f"{'≥' if self.at_least else '≤'} {value:g}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "ratio": round(self.ratio, 4),
            "first_target": self.target(self.first),
            "target": self.target(self.then),
            "ok": self.is_ok,
            "rounds": [round(ratio, 4) for ratio in self.ratios],
            "spent": self.spent,
            "audit": self.audit,
        }


@dataclass(frozen=True, slots=True)
class Curves:
    """What a plot shows: named curves over one quantity."""

    title: str
    across: str
    upwards: str
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, name: str, across: float, upwards: float) -> None:
        """One more point of a curve."""
        self.points.setdefault(name, []).append((across, upwards))


async def taking_turns(rounds: int, *legs: Callable[[], Awaitable[T]]) -> list[list[T]]:
    """Run the legs one after the other, `rounds` times, each second round in the other order; returns the results of
    each leg. What else the machine does then falls on all of them alike."""
    results: list[list[T]] = [[] for _ in legs]
    order = list(enumerate(legs))
    for _ in range(rounds):
        for n, leg in order:
            results[n].append(await leg())
        order.reverse()
    return results


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """One round's against the same round's."""
    return [mine / theirs for mine, theirs in zip(of, to, strict=True)]


def steady_rate(ends: Sequence[Sequence[float]]) -> float:
    """How many were done in a second between the first fifth of all and the last tenth: before, connections warm up and
    statements are prepared; after, some clients are through already. `ends` are instants in seconds, for each
    client."""
    every = sorted(at for client in ends for at in client)
    first, last = len(every) // 5, len(every) * 9 // 10
    return (last - first) / (every[last] - every[first])


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def cpu_seconds(process: int) -> float:
    """The CPU time that a process and all below it have taken, those that have ended included."""
    ticks = 0
    for found in _tree(process):
        with suppress(OSError):
            ticks += sum(map(int, _stat(found)[11:15]))
    return ticks / _TICKS


def resident_bytes(process: int) -> int:
    """The memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def _tree(process: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents.setdefault(int(_stat(int(folder.name))[1]), []).append(int(folder.name))
    found = [process]
    for each in found:
        found += parents.get(each, [])
    return found


def _stat(process: int) -> list[str]:
    """The fields of /proc/…/stat behind the name, which may hold anything."""
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU time taken while something ran, in seconds, by name; and what others took."""

    by: dict[str, float]
    seconds: float

    def each(self, count: int) -> dict[str, float]:
        """µs for each of `count`."""
        return {name: 1e6 * seconds / count for name, seconds in self.by.items()}


class Watch:
    """Takes the CPU time of several process trees from its making on."""

    def __init__(self, **processes: int) -> None:
        self._processes = processes
        self._before = self._now()
        self._began = time.perf_counter()

    def stop(self) -> Spent:
        """What was taken since."""
        seconds = time.perf_counter() - self._began
        return Spent({name: taken - self._before[name] for name, taken in self._now().items()}, seconds)

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(process) for name, process in self._processes.items()}


def in_words(spent: Sequence[Spent], count: int, flow: str) -> str:
    """The median µs of CPU for one flow, by process: "API 610, PostgreSQL 420 µs a payment"."""
    names = spent[0].by
    medians = {name: statistics.median(one.each(count)[name] for one in spent) for name in names}
    return ", ".join(f"{name} {taken:.0f}" for name, taken in medians.items()) + f" µs a {flow}"


# ── the machine ───────────────────────────────────────────────────────────────────────────────────────────────────────


def machine() -> list[tuple[str, str]]:
    """What the figures were made on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE / 2**30
    return [
        ("processor", f"{model}, {len(os.sched_getaffinity(0))} cores"),
        ("memory", f"{memory:.0f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("Python", platform.python_version()),
    ]


def busy_share(since: tuple[int, int]) -> float:
    """Which part of all cores' time was used since `machine_time`."""
    used, whole = machine_time()
    return (used - since[0]) / max(1, whole - since[1])


def machine_time() -> tuple[int, int]:
    """Ticks of all cores that were used, and all there were."""
    ticks = list(map(int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]))
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
