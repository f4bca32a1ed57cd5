"""The limit of payments: PostgreSQL's own load generator, pgbench, running the very statements of a payment.

A payment is made by the program while its connection is listened to; what it sent becomes pgbench's script. Two
payments of each customer show which identifiers are new in each: they become the number of a request."""

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import asyncpg

from bench.measuring import Spent, Watch
from bench.stage import DIGITS, Cast, Customer, token
from domain import payments
from domain.db import BY_INDEX, Database
from domain.work import Key, perform

_MARK: Final = "#" * DIGITS
"""Where the number of a request goes."""

_IDENTIFIER: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Ran:
    """What pgbench did: the instants of its commits, in seconds, for each client."""

    ends: list[list[float]]
    spent: Spent


@dataclass(frozen=True, slots=True)
class _Sent:
    """A statement with its arguments as text, and their types."""

    text: str
    arguments: tuple[str | None, ...]
    types: tuple[str, ...]


class Limit:
    """pgbench, ready to pay like the program does."""

    def __init__(self, cast: Cast, script: str) -> None:
        self._cast = cast
        self._script = script

    @classmethod
    async def of(cls, cast: Cast) -> "Limit":
        """See what the program sends for each customer."""
        stage = cast.stage
        database = Database(stage.settings.model_copy(update={"deed_connections": 1}))
        await database.open()
        log: list[Any] = []
        try:
            async with database.connection() as connection:
                connection.add_query_logger(log.append)
            first = await cast.ask(len(cast.customers), 2)
            seen: list[list[_Sent]] = []
            for n, customer in enumerate(cast.customers):
                pair = []
                for number in (first + 2 * n, first + 2 * n + 1):
                    log.clear()
                    await _pay(database, customer, number)
                    async with database.connection() as connection:
                        pair.append([await _as_text(connection, query) for query in list(log)])
                seen.append(_with_marks(pair[0], pair[1], first + 2 * n + 1))
        finally:
            await database.close()
        if len({tuple((sent.text, sent.types) for sent in each) for each in seen}) != 1:
            raise RuntimeError("customers pay by different statements")
        return cls(cast, await _script(cast, seen))

    async def run(self, first: int, clients: int, each: int, **processes: int) -> Ran:
        """Pay these requests, as `Cast.ask` numbers them. Raises RuntimeError when pgbench fails."""
        parts = urlsplit(self._cast.stage.settings.app_database_url or "")
        # With the planner settings of the connections that the program's deeds use.
        planner = " ".join(f"-c {name}={value}" for name, value in BY_INDEX.items())
        environment = os.environ | {"PGPASSWORD": unquote(parts.password or ""), "PGOPTIONS": planner}
        with TemporaryDirectory(prefix="escarcelle-pgbench-") as folder:
            file = Path(folder) / "pay.sql"
            file.write_text(self._script, encoding="utf-8")
            options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(_THREADS, clients)), "-t", str(each)]
            options += ["-f", str(file), "-l", "--log-prefix", str(Path(folder) / "log")]
            options += [f"-Dfirst={first}", f"-Deach={each}", "-Dcount=0"]
            options += ["-h", parts.hostname or "", "-p", str(parts.port), "-U", parts.username or ""]
            watch = Watch(**processes)
            process = await asyncio.create_subprocess_exec(
                self._cast.stage.servers.postgres.program("pgbench"), *options, parts.path.lstrip("/"),
                env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await process.communicate()
            spent = watch.stop()
            if process.returncode != 0:
                raise RuntimeError(said.decode(errors="replace")[-2000:])
            return Ran(_ends(Path(folder), clients), spent)


async def _pay(database: Database, customer: Customer, number: int) -> None:
    key = Key.of(customer.actor, token(number), "pay", [])
    await perform(database, customer.actor, payments.pay, token(number), key=key)


async def _as_text(connection: asyncpg.Connection, query: Any) -> _Sent:
    if not query.args:
        return _Sent(query.query, (), ())
    prepared = await connection.prepare(query.query)
    types = tuple(f"{p.name}" for p in prepared.get_parameters())
    return _Sent(query.query, tuple(_text(argument) for argument in query.args), types)


def _text(argument: object) -> str | None:
    if isinstance(argument, list | tuple):
        return "{" + ",".join(str(each) for each in argument) + "}"
    return None if argument is None else str(argument)


def _with_marks(one: Sequence[_Sent], other: Sequence[_Sent], number: int) -> list[_Sent]:
    """The second payment, with a mark wherever the number of a request belongs."""
    pairs = (
        pair
        for first, second in zip(one, other, strict=True)
        for pair in zip(_identifiers(first), _identifiers(second), strict=True)
    )
    new = [b for a, b in dict.fromkeys(pairs) if a != b]
    # Identifiers made together differ in their last digits only, where the mark goes; the request's holds it already.
    made = {
        found: found if found.endswith(token(number)) else f"{found[:20]}{n:03x}-{_MARK}" for n, found in enumerate(new)
    }

    def marked(argument: str | None) -> str | None:
        if argument is None:
            return None
        return _IDENTIFIER.sub(lambda m: made.get(m[0], m[0]), argument).replace(token(number), _MARK)

    return [_Sent(sent.text, tuple(map(marked, sent.arguments)), sent.types) for sent in other]


def _identifiers(sent: _Sent) -> list[str]:
    return [found for argument in sent.arguments if argument for found in _IDENTIFIER.findall(argument)]


async def _script(cast: Cast, seen: Sequence[Sequence[_Sent]]) -> str:
    """pgbench's script. What differs from customer to customer comes from a table, once for each connection."""
    statements = seen[0]
    own = {
        f"a{s}_{a}": [each[s].arguments[a] for each in seen]
        for s, sent in enumerate(statements)
        for a, argument in enumerate(sent.arguments)
        if argument is not None and (_MARK in argument or len({each[s].arguments[a] for each in seen}) > 1)
    }
    await cast.stage.world.as_owner("DROP TABLE IF EXISTS bench_arguments")
    columns = ", ".join(f"{name} text" for name in own)
    await cast.stage.world.as_owner(f"CREATE TABLE bench_arguments (client integer PRIMARY KEY, {columns})")
    await cast.stage.world.as_owner("GRANT SELECT ON bench_arguments TO PUBLIC")
    for n, _ in enumerate(seen):
        places = ", ".join(f"${at}" for at in range(1, len(own) + 2))
        row = [values[n] for values in own.values()]
        await cast.stage.world.as_owner(f"INSERT INTO bench_arguments VALUES ({places})", n, *row)
    lines = [
        r"\set count :count + 1",
        r"\if :count = 1",
        rf"SELECT {', '.join(own)} FROM bench_arguments WHERE client = :client_id \gset",
        r"\endif",
        r"\set n :first + :client_id * :each + :count - 1",
    ]
    for s, sent in enumerate(statements):
        several = sent.text.split(";")
        if len(several) > 1:
            lines += [r"\startpipeline", *(f"{part.strip()};" for part in several), r"\endpipeline"]
        else:
            lines.append(f"{_with_values(s, sent, own)};")
    return "\n".join(lines) + "\n"


def _with_values(s: int, sent: _Sent, own: dict[str, Any]) -> str:
    """The statement, with pgbench's variables for what is the customer's own or new, and the rest written out."""
    text, given = sent.text, []
    for a in reversed(range(len(sent.arguments))):
        argument, name, kind = sent.arguments[a], f"a{s}_{a}", sent.types[a]
        if argument is None:
            value = f"NULL::{kind}"
        elif name in own and _MARK in argument:
            value = f"replace(:{name}::text, '{_MARK}', lpad(:n::text, {DIGITS}, '0'))::{kind}"
        elif name in own:
            value = f":{name}::{kind}"
        else:
            quoted = argument.replace("'", "''")
            value = f"'{quoted}'::{kind}"
        place = re.compile(rf"\${a + 1}(?![0-9])")
        if len(place.findall(text)) > 1 and name in own:
            # Used in many places, it is made once, as a parameter would be.
            given.append(f"given{a} AS MATERIALIZED (SELECT {value} AS value)")
            value = f"(SELECT value FROM given{a})"
        text = place.sub(lambda _, value=value: value, text)  # type: ignore[misc]
    if given:
        assert text.startswith("WITH "), "the program's statements begin with their parts"
        text = f"WITH {', '.join(given)}, {text.removeprefix('WITH ')}"
    return text


def _ends(folder: Path, clients: int) -> list[list[float]]:
    ends: list[list[float]] = [[] for _ in range(clients)]
    for file in folder.glob("log.*"):
        for line in file.read_text(encoding="ascii").splitlines():
            client, _, _, _, seconds, microseconds = line.split()[:6]
            ends[int(client)].append(int(seconds) + int(microseconds) / 1e6)
    return ends
