"""The store for analysts equals the ledger, whatever happens to the copy that makes it."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import pytest

from domain.codes import new_id
from domain.db import APP, Database, connect_as
from domain.ledger import account_of
from domain.parties import credit_holder
from domain.work import perform
from escarcelle import database as escarcelle_database
from reporting import copy
from reporting.store import Place
from tests.reporting.stores import AtWork, opened
from tests.world import Servers, World, environment

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at_work(world: World, tmp_path: Path) -> AtWork:
    """An issuer at work."""
    return await AtWork.begin(world, tmp_path / "stores")


async def equal(at_work: AtWork) -> None:
    """Store and months hold what PostgreSQL holds, line by line and column by column."""
    ledger, store, months = await at_work.ledger(), at_work.store(), at_work.parquet()
    for table, rows in ledger.items():
        assert store[table] == rows, table
        assert months.get(table, rows) == rows, f"{table} in Parquet"
    assert len(ledger["ledger_lines"]) >= 8, "something was compared"


# ── what a copy holds ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_copy_holds_everything_and_the_next_only_reads_what_is_new(at_work: AtWork) -> None:
    first = at_work.copies()
    await equal(at_work)
    assert first.anew and first.new_lines == first.about["ledger_lines"] + first.about["operations"]
    before = first.about["ledger_lines"] + first.about["operations"]
    await at_work.works()
    second = at_work.copies()
    await equal(at_work)
    assert not second.anew and second.new_lines == second.about["ledger_lines"] + second.about["operations"] - before
    assert second.new_lines > 0
    assert at_work.about() == second.about


async def test_a_change_of_anything_comes_with_its_line_in_the_journal(at_work: AtWork) -> None:
    """Rows that may change are read again by the journal alone: here all of them are compared after each step."""
    at_work.copies()
    world, member = at_work.world, at_work.world.holders["ines@example.com"]
    reserved = await at_work.ask(validation_days=1)
    await at_work.perform(world.system, credit_holder, member.id, "50", "un motif secret")
    for _ in range(3):
        await at_work.works()
        assert not at_work.copies().anew
        await equal(at_work)
    assert reserved.id in {row[0] for row in at_work.store()["payment_requests"]}


async def test_run_twice_nothing_changes(at_work: AtWork) -> None:
    first, second = at_work.copies(), at_work.copies()
    assert (second.anew, second.new_lines) == (False, 0)
    assert second.about["digest"] == first.about["digest"]
    assert second.about["number"] == first.about["number"] + 1
    await equal(at_work)


async def test_months_that_were_lost_are_written_again(at_work: AtWork) -> None:
    at_work.copies()
    shutil.rmtree(at_work.link.parent / "parquet")
    assert at_work.copies().new_lines == 0
    await equal(at_work)


async def test_older_versions_go_but_for_who_may_just_be_opening_them(at_work: AtWork) -> None:
    for _ in range(4):
        at_work.copies()
    assert at_work.versions == ["store-2.duckdb", "store-3.duckdb", "store-4.duckdb"]
    assert at_work.link.resolve().name == "store-4.duckdb"


async def test_a_sandbox_is_marked_and_a_real_issuer_is_not(at_work: AtWork, servers: Servers) -> None:
    at_work.copies()
    assert at_work.link.name == f"TEST-{at_work.world.slug}.duckdb"
    assert at_work.about()["test"] is True
    real = await AtWork.begin(await World.make(servers, at_work.world.database, sandbox=False), at_work.link.parent)
    real.copies()
    assert real.link.name == f"{real.world.slug}.duckdb"
    assert real.about()["test"] is False
    names = {path.name for path in (at_work.link.parent / "parquet").iterdir()}
    assert names == {f"tenant=TEST-{at_work.world.slug}", f"tenant={real.world.slug}"}
    assert not real.store()["ledger_lines"] & at_work.store()["ledger_lines"], "each has its own"


async def test_nothing_personal_is_in_it(at_work: AtWork) -> None:
    at_work.copies()
    world = at_work.world
    personal = {"secret", "Personne", "Durand", "@example.com", "club@", "aide aux vacances", "FACT-"}
    for question in (
        "SELECT token FROM payment_requests WHERE tenant = $1",
        "SELECT transaction_number FROM payment_requests WHERE tenant = $1",
        "SELECT number FROM vouchers WHERE tenant = $1 AND number IS NOT NULL",
        "SELECT login FROM users WHERE tenant = $1 AND role = 'HOLDER'",
        "SELECT encode(code_salt, 'hex') FROM vouchers WHERE tenant = $1 AND code_salt IS NOT NULL",
    ):
        personal |= {str(row[0]) for row in await world.as_owner(question, world.tenant)}
    with opened(at_work.link) as store:
        names = [row[0] for row in store.execute("SELECT table_name FROM information_schema.tables").fetchall()]
        held = "\n".join(str(row) for name in names for row in store.execute(f"FROM {name}").fetchall())
    held += str(at_work.parquet())
    assert "Canoë Kayak Club" in held, "a merchant's name is there, so that what follows means something"
    assert {word for word in personal if word in held} == set()
    raw = b"".join(path.read_bytes() for path in at_work.link.parent.rglob("*") if path.is_file())
    assert {word for word in personal if len(word) > 5 and word.encode() in raw} == set()


# ── late commits ──────────────────────────────────────────────────────────────────────────────────────────────────────

_CREDIT = """
WITH made AS (
  INSERT INTO transfers (tenant, id, kind, subject_kind, subject_id, reason, at)
  SELECT $1, $2, 'TRANSFER', 'hold', $3, 'credit', $6 RETURNING id
), sides AS (
  INSERT INTO postings (tenant, transfer_id, account_id, unit, amount)
  SELECT $1, made.id, side.account, 'EUR', side.amount
  FROM made, (VALUES ($4::uuid, -700), ($5::uuid, 700)) AS side(account, amount)
), kept AS (UPDATE balances SET amount = amount + 700 WHERE tenant = $1 AND account_id = $5)
INSERT INTO journal (tenant, id, kind, at, holder_id, amount, subject_kind, subject_id, detail)
VALUES ($1, gen_random_uuid(), 'hold.credit', $6, $3, 700, 'hold', $3, '{"reason": "late"}')
"""


async def test_a_transaction_that_stays_open_over_a_copy_is_in_the_next(at_work: AtWork) -> None:
    world = at_work.world
    eric = await world.holder("eric", "Zoé")
    at_work.copies()
    late = await connect_as(world.servers.settings, APP)
    try:
        await late.execute(f"BEGIN; SET LOCAL app.tenant = '{world.tenant}'")
        number = int(await late.fetchval("SELECT pg_current_xact_id()::text"))
        ((issuer,),) = await world.as_owner("SELECT id FROM issuers WHERE tenant = $1", world.tenant)
        now = await late.fetchval("SELECT tenant_clock($1)", world.tenant)
        transfer, accounts = new_id(), (account_of(issuer, "FUNDING"), account_of(eric.id, "WALLET"))  # type: ignore[arg-type]
        await late.execute(_CREDIT, world.tenant, transfer, eric.id, *accounts, now)
        await at_work.works()
        over = at_work.copies()
        await equal(at_work)
        assert over.new_lines > 0, "who began later and has committed is there already"
        assert over.about["watermark"] <= number
        assert over.about["waiting"] > 0
        again = at_work.copies()
        assert (again.new_lines, again.about["watermark"]) == (0, over.about["watermark"])
        assert again.about["watermark_since"] == over.about["watermark_since"], "it stands still, and says so"
        await late.execute("COMMIT")
    finally:
        await late.close()
    after = at_work.copies()
    assert after.new_lines == 3, "two sides and a line in the journal"
    assert {row[0] for row in at_work.store()["ledger_lines"]} >= {transfer}
    assert after.about["watermark"] > number
    assert after.about["waiting"] == 0
    await equal(at_work)


# ── killed, and at once ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", [True, False], ids=["the first copy", "the next copy"])
async def test_killed_at_any_step_the_last_one_serves_and_the_next_run_makes_it_good(
    world: World, tmp_path: Path, first: bool
) -> None:
    at_work = await AtWork.begin(world, tmp_path / "stores")
    for step in _steps(at_work, first):
        if first:
            shutil.rmtree(at_work.link.parent)
        await at_work.ask()
        serves = at_work.about() if at_work.link.exists() else None
        assert await asyncio.to_thread(at_work.copies_apart, step) == -signal.SIGKILL, f"it was to die at {step!r}"
        found = at_work.about() if at_work.link.exists() else None
        if step == "record":
            assert found is not None and found != serves, "everything but the word about it was done"
        else:
            assert found == serves, f"killed at {step!r}"
        copied = at_work.copies()
        assert copied.about["number"] > (serves or {"number": 0})["number"]
        await equal(at_work)
        left = [name for name in at_work.versions if not name.startswith("store-")]
        assert left == [], f"killed at {step!r}, cleared away afterwards"


def _steps(at_work: AtWork, first: bool) -> list[str]:
    """The steps of a copy that nobody disturbs; of the tables, which are read one like the other, the first and the
    last; of a first copy those that leave something else behind than the next one's."""
    at_work.copies()
    if not first:
        at_work.copies()
    assert at_work.steps[0] == "lock" and at_work.steps[-1] == "record"
    assert "swap" in at_work.steps and len(at_work.steps) == len(set(at_work.steps)) > 10
    reads = [step for step in at_work.steps if step.startswith("read ")]
    if first:
        return [step for step in at_work.steps if step in ("begin anew", reads[0], "verify", "keep", "swap", "record")]
    return [step for step in at_work.steps if step not in reads[1:-1]]


async def test_run_at_once_one_makes_it_and_the_others_say_so(at_work: AtWork) -> None:
    at_work.copies()
    await at_work.works()
    with at_work.child("verify") as busy:
        assert busy.stdout is not None and busy.stdin is not None
        assert await asyncio.to_thread(busy.stdout.readline) == "waits\n"
        assert copy.copy(at_work.settings, at_work.issuer) is None
        others = [at_work.child("never") for _ in range(2)]
        assert [other.communicate()[0] for other in others] == ["busy\n", "busy\n"]
        assert at_work.about()["number"] == 1, "nothing has changed meanwhile"
        said, _ = await asyncio.to_thread(busy.communicate, "go on\n")
        assert said == "2\n"
    await equal(at_work)
    at_work.copies()
    await equal(at_work)


async def test_readers_see_the_old_or_the_new_and_never_an_error(at_work: AtWork) -> None:
    at_work.copies()
    with at_work.reader() as reader:
        assert reader.stdout is not None
        assert await asyncio.to_thread(reader.stdout.readline) == "reads\n"
        for n in range(2, 14):
            if n % 4 == 0:
                await at_work.works()
            assert (await asyncio.to_thread(at_work.copies)).about["number"] == n
        said = json.loads((await asyncio.to_thread(reader.communicate, "enough"))[0])
    assert said["wrong"] == []
    assert said["seen"] == sorted(said["seen"]), "never back to an older one"
    assert len(set(said["seen"])) >= 5, "it did read while they were swapped"


async def test_whoever_has_it_open_goes_on_reading_the_old_one(at_work: AtWork) -> None:
    at_work.copies()
    with opened(at_work.link) as store:
        lines = store.execute("SELECT count(*) FROM operations").fetchone()
        for _ in range(4):
            await at_work.works()
            assert await asyncio.to_thread(at_work.copies_apart) == 0
        assert store.execute("SELECT count(*) FROM operations").fetchone() == lines
        assert store.execute("SELECT number FROM about").fetchone() == (1,)
    assert at_work.about()["number"] == 5


# ── another database, another file ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Another cluster."""
    started = Servers.start(tmp_path_factory.mktemp("elsewhere"))
    yield started
    started.stop()


async def test_another_cluster_is_copied_anew(at_work: AtWork, elsewhere: Servers) -> None:
    first = at_work.copies()
    database = Database(elsewhere.settings)
    await database.open()
    try:
        system = await escarcelle_database.insert_issuer(
            elsewhere.settings, slug=at_work.world.slug, name="La même, ailleurs", sandbox=True
        )
        await perform(database, system, escarcelle_database.open_issuer_accounts)
        world = World(elsewhere, database, at_work.world.slug, system)
        assert at_work.settings.reporting_folder is not None
        there = await AtWork.begin(world, at_work.settings.reporting_folder)
        copied = there.copies()
        assert there.link == at_work.link
        assert copied.anew and copied.about["cluster"] != first.about["cluster"]
        await equal(there)
        assert not there.copies().anew
    finally:
        await database.close()


async def test_numbers_that_a_restore_brought_along_are_taken_once(
    at_work: AtWork, elsewhere: Servers, tmp_path: Path
) -> None:
    """A restored row keeps the number of a transaction of its old cluster, which the new one will come to again."""
    superuser = await asyncpg.connect(at_work.world.servers.postgres.url())
    try:
        await superuser.execute("SET session_replication_role = replica")
        for table in ("transfers", "journal"):
            await superuser.execute(
                f"UPDATE {table} SET xact = (xact::text::bigint + 40)::text::xid8 WHERE tenant = $1",
                at_work.world.tenant,
            )
        assert at_work.copies().anew
        await equal(at_work)
        # The cluster comes to these numbers and passes them.
        for _ in range(60):
            await superuser.execute("SELECT pg_current_xact_id()")
        await superuser.execute("SET session_replication_role = origin")
        for _ in range(2):
            await at_work.works()
            assert not at_work.copies().anew
            await equal(at_work)
        # Else the audit would say that no transfer and its line may be of two transactions.
    finally:
        await superuser.close()


@pytest.mark.parametrize(
    "spoiled", ["a cent", "a line more", "a line less", "a status", "an amount", "no store", "another shape"]
)
async def test_a_store_that_is_not_what_the_ledger_says_is_made_anew(at_work: AtWork, spoiled: str) -> None:
    at_work.copies()
    at_work.link.resolve().chmod(0o600)
    if spoiled == "no store":
        at_work.link.resolve().write_bytes(b"not a store")
    else:
        statement = {
            "a cent": "UPDATE ledger_lines SET amount_cents = amount_cents + 1 WHERE amount_cents = 2150",
            "a line more": "INSERT INTO operations (SELECT * REPLACE (uuid() AS id) FROM operations LIMIT 1)",
            "a line less": "DELETE FROM operations WHERE kind = 'preq.cancel'",
            "a status": "UPDATE vouchers SET status = 'DELIVERED'",
            "an amount": "UPDATE payment_requests SET amount_paid_cents = NULL",
            "another shape": "UPDATE about SET shape = 'older'",
        }[spoiled]
        with duckdb.connect(at_work.link.resolve()) as store:
            store.execute(statement)
    copied = at_work.copies()
    assert copied.anew
    told = [step for step in at_work.steps if step.startswith("make anew: ")]
    assert len(told) == (spoiled not in ("no store", "another shape"))
    await equal(at_work)


async def test_what_cannot_be_verified_is_not_swapped_in(at_work: AtWork) -> None:
    """Whatever spoils the file while it is made, the last one goes on serving."""
    at_work.copies()
    before = at_work.about()
    await at_work.works()
    spoiled = "UPDATE ledger_lines SET amount_cents = 0 WHERE amount_cents = 2150"

    def on_step(step: str) -> None:
        if step == "views":
            spoil(at_work, spoiled)

    with pytest.raises(copy.CannotCopy):
        copy.copy(at_work.settings, at_work.issuer, on_step)
    assert at_work.about() == before
    at_work.copies()
    await equal(at_work)


def spoil(at_work: AtWork, statement: str) -> None:
    """Change the file that is being made, beside the copy that makes it: DuckDB lets one process open a file twice."""
    building = copy.place_of(at_work.settings, at_work.issuer).versions / "building.duckdb"
    with duckdb.connect(building) as store:
        store.execute(statement)


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def nightly(at_work: AtWork, *options: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """What an operator types."""
    command = [sys.executable, "-m", "escarcelle", "nightly", *options]
    given = environment(at_work.settings) | environ
    return await asyncio.to_thread(subprocess.run, command, env=given, capture_output=True, text=True, check=False)


async def test_the_command_says_what_was_verified_and_records_it(at_work: AtWork) -> None:
    done = await nightly(at_work, "--issuer", at_work.world.slug)
    assert done.returncode == 0, done.stderr
    about = at_work.about()
    assert f"{at_work.world.slug}: copy 1, made anew; {about['ledger_lines']} ledger lines" in done.stdout
    assert about["digest"][:12] in done.stdout
    rows = await at_work.world.as_owner("SELECT * FROM reporting_copies WHERE tenant = $1", at_work.world.tenant)
    recorded: dict[str, Any] = dict(rows[0])
    assert len(rows) == 1
    assert (
        recorded.items()
        >= {
            name: about[name] for name in ("number", "watermark", "cluster", "digest", "ledger_lines", "operations")
        }.items()
    )
    assert (recorded["as_of"], recorded["copied_at"]) == (about["as_of"], about["copied_at"])
    await equal(at_work)


async def test_the_command_refuses_what_there_is_not(at_work: AtWork, tmp_path: Path) -> None:
    unknown = await nightly(at_work, "--issuer", "nobody")
    assert (unknown.returncode, unknown.stdout) == (1, "There is no issuer 'nobody'.\n")
    homeless = at_work.settings.model_copy(update={"reporting_folder": None})
    at_work.settings = homeless
    nowhere = await nightly(at_work, "--issuer", at_work.world.slug)
    assert nowhere.returncode == 2
    assert "REPORTING_FOLDER" in nowhere.stderr
    away = homeless.model_copy(
        update={"reporting_folder": Path("stores"), "reader_database_url": "postgresql://x:y@127.0.0.1:1/none"}
    )
    at_work.settings = away
    unreachable = await nightly(at_work)
    assert unreachable.returncode == 1
    assert unreachable.stdout.startswith("The database does not answer as escarcelle_reader (")
    at_work.settings = away.model_copy(
        update={"reader_database_url": None, "database_url": away.app_database_url, "reporting_folder": tmp_path}
    )
    behind_the_wall = await nightly(at_work)
    assert behind_the_wall.returncode == 1
    assert "permission denied to set role" in behind_the_wall.stdout


def test_a_name_that_no_file_can_bear_is_refused(tmp_path: Path) -> None:
    for slug in ("../other", "a/b", "", "TEST-temps-libre", ".hidden", "a b", "parquet"):
        with pytest.raises(ValueError, match="cannot be a file's"):
            Place.of(tmp_path, slug, test=False)
