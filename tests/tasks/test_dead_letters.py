"""What was given up can be listed and sent again; what has long been done goes, unless it could come again."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from domain import messages
from domain.access import Actor
from domain.messages import Resent
from domain.outbox import DEAD_LETTERS_LAST, INBOX_LASTS
from domain.settings import Settings
from domain.work import perform
from tasks.relay import TIDY_BATCH, Relay
from tests.tasks import Cast, PostBox, database_of, settings_for, until, working
from tests.world import Servers, environment

pytestmark = pytest.mark.anyio

_LONG_AGO = INBOX_LASTS + timedelta(days=1)
_VERY_LONG_AGO = DEAD_LETTERS_LAST + timedelta(days=1)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Of their own: a relay sees every tenant."""
    started = Servers.start(tmp_path_factory.mktemp("letters"))
    yield started
    started.stop()


# ── from the command line ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_dead_letter_is_listed_without_personal_data_and_sent_again_as_the_same_mail(servers: Servers) -> None:
    box = PostBox(refusal="550 5.1.1 <club@example.com>: no such person")
    async with box.open(), _given_up(servers, box) as (cast, letter_id):
        listed = await _escarcelle(servers.settings, "list")
        assert listed.returncode == 0
        (line,) = listed.stdout.splitlines()
        assert str(letter_id) in line
        assert cast.world.slug in line
        assert "  mail  " in line
        assert "1×  550 5.1.1 recipient refused" in line
        assert "club" not in line
        assert "Martin" not in line
        elsewhere = await _escarcelle(servers.settings, "list", "--topic", "push")
        assert (elsewhere.stdout, elsewhere.returncode) == ("", 0)

        again = await _escarcelle(servers.settings, "resend", str(letter_id))
        assert (again.returncode, again.stdout) == (0, f"{letter_id}  will be sent again\n")
        assert await cast.count("dead_letters") == 0
        assert await cast.count("journal", "kind = 'dead.resend'") == 1
        box.refusal = None
        async with working(settings_for(servers, box)):
            await until(cast.is_told)
        assert box.identifiers == [f"<{letter_id}.1@127.0.0.1>"]
        assert await cast.count("inbox") == 1


async def test_all_are_sent_again_or_those_of_a_topic_or_an_issuer(servers: Servers) -> None:
    box = PostBox(refusal="550 no")
    async with box.open(), _given_up(servers, box) as (cast, letter_id), _given_up(servers, box) as (other, other_id):
        await _bury(cast, "push", uuid4())
        wrong = await _escarcelle(servers.settings, "resend", "--all", "--topic", "mail", "--issuer", "nobody")
        assert (wrong.returncode, "There is no such issuer" in wrong.stderr) == (1, True)
        some = await _escarcelle(servers.settings, "resend", "--all", "--topic", "mail", "--issuer", cast.world.slug)
        assert some.stdout == f"{letter_id}  will be sent again\n"
        assert await cast.count("dead_letters") == 1
        assert await other.count("dead_letters") == 1
        rest = await _escarcelle(servers.settings, "resend", "--all")
        assert len(rest.stdout.splitlines()) == 2
        assert f"{other_id}  will be sent again\n" in rest.stdout
        assert (await _escarcelle(servers.settings, "list")).stdout == ""
        for each in (cast, other):
            await each.world.as_owner("DELETE FROM outbox")


async def test_an_unknown_one_is_named_and_nothing_is_done(servers: Servers) -> None:
    box = PostBox(refusal="550 no")
    async with box.open(), _given_up(servers, box) as (cast, letter_id):
        unknown = uuid4()
        said = await _escarcelle(servers.settings, "resend", str(letter_id), str(unknown))
        assert said.returncode == 1
        assert str(unknown) in said.stderr
        assert str(letter_id) not in said.stderr
        assert await cast.count("dead_letters") == 1
        for arguments in ((), ("--all", str(letter_id)), (str(letter_id), "--topic", "mail"), ("no-identifier",)):
            assert (await _escarcelle(servers.settings, "resend", *arguments)).returncode == 2
        await cast.world.as_owner("DELETE FROM dead_letters")


# ── what was handled after all ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_letter_that_a_slow_worker_delivered_after_all_is_not_sent_again(servers: Servers) -> None:
    box = PostBox(refusal="550 no")
    async with box.open(), _given_up(servers, box) as (cast, letter_id):
        system = Actor(cast.world.tenant)
        database = cast.world.database
        await perform(database, system, messages.finish, letter_id, message_id=letter_id)
        came = await perform(database, system, messages.resend, (letter_id, letter_id))
        assert came == {letter_id: Resent.HANDLED}
        assert await perform(database, system, messages.resend, (letter_id,)) == {letter_id: Resent.UNKNOWN}
        assert await cast.count("outbox", "topic = 'mail'") == 0
        assert await cast.count("dead_letters") == 0


async def test_two_who_send_it_again_at_once_send_it_once(servers: Servers) -> None:
    box = PostBox(refusal="550 no")
    async with box.open(), _given_up(servers, box) as (cast, letter_id):
        system = Actor(cast.world.tenant)
        answers = await asyncio.gather(
            *(perform(cast.world.database, system, messages.resend, (letter_id,)) for _ in range(6))
        )
        whats = [what for answer in answers if isinstance(answer, dict) for what in answer.values()]
        assert sorted(whats) == [Resent.AGAIN, *[Resent.UNKNOWN] * 5]
        assert await cast.count("outbox", "topic = 'mail'") == 1
        await cast.world.as_owner("DELETE FROM outbox")


async def test_a_message_that_is_both_to_be_sent_and_handled_goes_without_being_sent(servers: Servers) -> None:
    """It was put back in the moment in which a worker that was thought dead finished."""
    async with PostBox().open() as box, database_of(servers.settings) as database:
        cast = await Cast.make(servers, database)
        await cast.pay(await cast.ask("50"))
        message_id = await cast.one_mail()
        await cast.world.as_owner(
            "INSERT INTO inbox (tenant, message_id) VALUES ($1, $2)", cast.world.tenant, message_id
        )
        async with working(settings_for(servers, box)):
            await until(cast.is_told)
        assert box.mails == []


# ── clearing away ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_old_inbox_rows_go_unless_their_message_could_come_again(servers: Servers) -> None:
    async with database_of(servers.settings) as database:
        cast = await Cast.make(servers, database)
        old, new, to_be_sent, given_up = (uuid4() for _ in range(4))
        for message_id, age in ((old, _LONG_AGO), (new, timedelta()), (to_be_sent, _LONG_AGO), (given_up, _LONG_AGO)):
            await cast.world.as_owner(
                "INSERT INTO inbox (tenant, message_id, done_at) VALUES ($1, $2, clock_timestamp() - $3::interval)",
                cast.world.tenant,
                message_id,
                age,
            )
        await cast.world.as_owner(
            "INSERT INTO outbox (tenant, id, topic, payload, claim_at)"
            " VALUES ($1, $2, 'mail', '{}', clock_timestamp() + interval '1 hour')",
            cast.world.tenant,
            to_be_sent,
        )
        await _bury(cast, "mail", given_up)
        assert not await _tidied(servers)
        rows = await cast.world.as_owner("SELECT message_id FROM inbox WHERE tenant = $1", cast.world.tenant)
        assert {row["message_id"] for row in rows} == {new, to_be_sent, given_up}
        await cast.world.as_owner("DELETE FROM outbox")
        await cast.world.as_owner("DELETE FROM dead_letters")


async def test_old_dead_letters_go_batch_by_batch_and_then_their_inbox_rows(servers: Servers) -> None:
    async with database_of(servers.settings) as database:
        cast = await Cast.make(servers, database)
        await cast.world.as_owner("DELETE FROM inbox")
        await cast.world.as_owner(
            "INSERT INTO dead_letters (tenant, id, topic, payload, created_at, given_up_at, failures, reason)"
            " SELECT $1, gen_random_uuid(), 'mail', '{}', now(), clock_timestamp() - $2::interval, 1, 'x'"
            " FROM generate_series(1, $3)",
            cast.world.tenant,
            _VERY_LONG_AGO,
            TIDY_BATCH + 1,
        )
        await cast.world.as_owner(
            "INSERT INTO inbox (tenant, message_id, done_at)"
            " SELECT tenant, id, given_up_at FROM dead_letters WHERE tenant = $1",
            cast.world.tenant,
        )
        await _bury(cast, "mail", uuid4())
        assert await _tidied(servers), "there is more"
        assert await cast.count("dead_letters") == 2
        assert not await _tidied(servers)
        assert await cast.count("dead_letters") == 1, "a new one stays"
        assert await cast.count("inbox") == 0


async def test_a_relay_with_nothing_to_do_tidies(servers: Servers) -> None:
    async with database_of(servers.settings) as database:
        cast = await Cast.make(servers, database)
        await cast.world.as_owner(
            "INSERT INTO inbox (tenant, message_id, done_at)"
            " SELECT $1, gen_random_uuid(), clock_timestamp() - $2::interval FROM generate_series(1, $3)",
            cast.world.tenant,
            _LONG_AGO,
            TIDY_BATCH + 1,
        )
        stop = asyncio.Event()
        relaying = asyncio.create_task(Relay(servers.settings).run(stop))
        await until(lambda: _is_empty(cast))
        stop.set()
        await relaying


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _given_up(servers: Servers, box: PostBox) -> AsyncIterator[tuple[Cast, UUID]]:
    """A payment whose mail has been refused for good, and the dead letter's identifier."""
    async with database_of(servers.settings) as database:
        cast = await Cast.make(servers, database)
        await cast.pay(await cast.ask("50"))
        letter_id = await cast.one_mail()
        async with working(settings_for(servers, box)):
            await until(lambda: cast.count("dead_letters"))
        yield cast, letter_id


async def _bury(cast: Cast, topic: str, letter_id: UUID) -> None:
    await cast.world.as_owner(
        "INSERT INTO dead_letters (tenant, id, topic, payload, created_at, failures, reason)"
        " VALUES ($1, $2, $3, '{}', now(), 1, 'x')",
        cast.world.tenant,
        letter_id,
        topic,
    )


async def _tidied(servers: Servers) -> bool:
    """One batch; whether there may be more."""
    relay = Relay(servers.settings)
    more = await relay.tidy()
    stop = asyncio.Event()
    stop.set()
    await relay.run(stop)
    return more


async def _is_empty(cast: Cast) -> bool:
    return await cast.count("inbox") == 0


async def _escarcelle(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "escarcelle", "dead-letters", *arguments]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
