"""What the tests of the store for analysts share: an issuer at work, its store, and the ledger beside it.

`python -m tests.reporting.stores` is a child process: it copies an issuer and waits at a step, or reads a store again
and again. Copies that nobody talks to are made in children of a process that has loaded everything already: loading
takes longer than a copy."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb

from domain import payments, vouchers
from domain.access import Actor, Role
from domain.db import OWNER, connect_as
from domain.payments import PaymentRequest
from domain.settings import Settings, from_environment
from domain.vouchers import SupplierInvoice, TypedCode, Voucher
from domain.work import perform
from reporting import copy
from reporting.copy import Copied
from reporting.flows import FLOWS
from reporting.store import LEDGER_LINES, OPERATIONS, tables
from tests.world import World, environment


@dataclass
class AtWork:
    """A club that collects and a supplier of vouchers, a customer who is a member too; and the folder of its store."""

    world: World
    settings: Settings
    club: Actor
    customer: Actor
    baskets: int = 0
    steps: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, world: World, folder: Path) -> "AtWork":
        """Everyone, and some work done."""
        await world.merchant("708900", "Canoë Kayak Club Orléans", {"P001": "Saint-Jean-le-Blanc"})
        await world.voucher_kind()
        await world.member("ines@example.com", "Durand-Personne", wallet="10000", email="ines@example.com")
        club = await world.user("708900", Role.MERCHANT_MANAGER, merchant="708900", email="club@example.com")
        customer = await world.user("ines-secret", Role.HOLDER, holder="ines@example.com")
        settings = world.servers.settings.model_copy(update={"reporting_folder": folder})
        at_work = cls(world, settings, club, customer)
        await at_work.works()
        return at_work

    async def works(self) -> None:
        """A payment in part, one that is reserved, one that is asked for and cancelled; a voucher with its invoice, and
        one that is cancelled."""
        paid = await self.ask()
        await self.perform(self.customer, payments.pay, paid.token, "21,50")
        reserved = await self.ask(validation_days=2)
        await self.perform(self.customer, payments.pay, reserved.token)
        await self.perform(self.club, payments.cancel, (await self.ask()).id)
        supplier = self.world.merchants["708900"].id
        voucher = await self.perform(self.customer, vouchers.request, supplier_id=supplier, amount="12")
        assert isinstance(voucher, Voucher)
        await self.perform(self.customer, vouchers.reveal, voucher.id, key_of_code=self.world.secret_keys[0])
        voucher = await self.perform(self.customer, vouchers.deliver, voucher.id)
        assert isinstance(voucher, Voucher) and voucher.number is not None
        invoice = await self.perform(
            self.club,
            vouchers.record_invoice,
            voucher_number=voucher.number,
            code=TypedCode(self.world.code_of(voucher), self.world.secret_keys),
            invoice_number=f"FACT-{voucher.number}",
            amount="15,50",
        )
        assert isinstance(invoice, SupplierInvoice)

    async def ask(self, **more: Any) -> PaymentRequest:
        """The club asks for 22,00 €, with everything that people type."""
        self.baskets += 1
        request = await self.perform(
            self.club,
            payments.create,
            point_of_sale_id=self.world.places["P001"].id,
            amount="22,00",
            basket_number=f"panier-secret-{self.baskets}",
            customer_identifier="ines@example.com",
            notify_email="accueil-secret@example.com",
            label="location pour Mme Durand-Personne",
            customer_reference="dossier-secret",
            seller_identifier="vendeur-secret",
            **more,
        )
        assert isinstance(request, PaymentRequest)
        return request

    async def perform(self, actor: Actor, deed: Any, *given: Any, **more: Any) -> Any:
        """A deed of one of them."""
        return await perform(self.world.database, actor, deed, *given, **more)

    @property
    def issuer(self) -> copy.Issuer:
        """As the copy knows it."""
        (found,) = copy.issuers(self.settings, self.world.slug)
        return found

    @property
    def link(self) -> Path:
        """Where analysts open the store."""
        return copy.place_of(self.settings, self.issuer).link

    @property
    def versions(self) -> list[str]:
        """What lies beside it."""
        return sorted(path.name for path in copy.place_of(self.settings, self.issuer).versions.iterdir())

    def copies(self) -> Copied:
        """A copy in this process, which nobody else makes."""
        self.steps = []
        copied = copy.copy(self.settings, self.issuer, self.steps.append)
        assert copied is not None
        return copied

    def child(self, step: str) -> "subprocess.Popen[str]":
        """A copy in a process of its own, which waits at that step."""
        return self._started("waits", self.world.slug, step)

    def reader(self) -> "subprocess.Popen[str]":
        """A process that reads the store again and again."""
        return self._started("reads", str(self.link))

    def _started(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tests.reporting.stores", *words],
            env=environment(self.settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def copies_apart(self, dies_at: str | None = None) -> int | None:
        """A copy in a process of its own, which kills itself at a step if one is named; how it ended."""
        child = _FORKS.Process(target=_copy, args=(self.settings, self.world.slug, dies_at))
        child.start()
        child.join()
        return child.exitcode

    async def ledger(self) -> dict[str, set[tuple[Any, ...]]]:
        """What PostgreSQL holds, table by table as the store has it, asked by the owner."""
        found = {}
        connection = await connect_as(self.settings, OWNER)
        for table in tables(FLOWS):
            question = f"SELECT {table.columns} FROM {table.source} WHERE t.tenant = $1"
            rows = await connection.fetch(question, self.world.tenant)
            found[table.name] = {tuple(row.values()) for row in rows}
            assert len(found[table.name]) == len(rows), "no row is like another"
        await connection.close()
        return found

    def store(self) -> dict[str, set[tuple[Any, ...]]]:
        """What the store holds."""
        with opened(self.link) as store:
            found = {}
            for table in tables(FLOWS):
                rows = store.execute(f"FROM {table.name}").fetchall()
                found[table.name] = set(rows)
                assert len(found[table.name]) == len(rows), f"{table.name} has a row twice"
            return found

    def parquet(self) -> dict[str, set[tuple[Any, ...]]]:
        """What the months hold."""
        folder = copy.place_of(self.settings, self.issuer).parquet
        with duckdb.connect() as reader:
            found = {}
            for table in (LEDGER_LINES, OPERATIONS):
                names = ", ".join(f.name for f in table.fields)
                rows = reader.execute(f"SELECT {names} FROM '{folder}/month=*/{table.name}.parquet'").fetchall()
                found[table.name] = set(rows)
                assert len(found[table.name]) == len(rows), f"{table.name} has a row twice"
            return found

    def about(self) -> dict[str, Any]:
        """What the store says about itself."""
        with opened(self.link) as store:
            answer = store.execute("FROM about")
            (row,) = answer.fetchall()
            return dict(zip((column[0] for column in answer.description), row, strict=True))


@contextmanager
def opened(link: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A store, as an analyst opens it."""
    with duckdb.connect(link, read_only=True) as store:
        yield store


# ── the child ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def _copy(settings: Settings, slug: str, dies_at: str | None) -> None:
    def on_step(step: str) -> None:
        if step == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    (issuer,) = copy.issuers(settings, slug)
    if copy.copy(settings, issuer, on_step) is None:
        sys.exit("another process is at it")


def _main() -> None:
    what, *words = sys.argv[1:]
    if what == "reads":
        _read_again_and_again(Path(words[0]))
        return
    assert what == "waits"
    settings = from_environment()
    slug, at = words

    def on_step(step: str) -> None:
        if step == at:
            print("waits", flush=True)
            sys.stdin.readline()

    (issuer,) = copy.issuers(settings, slug)
    copied = copy.copy(settings, issuer, on_step)
    print("busy" if copied is None else copied.about["number"], flush=True)


def _read_again_and_again(link: Path) -> None:
    """Until a line comes in; then says which versions were seen, and everything that went wrong."""
    os.set_blocking(sys.stdin.fileno(), False)
    seen: list[int] = []
    wrong: list[str] = []
    print("reads", flush=True)
    while not sys.stdin.read(1):
        try:
            with opened(link) as store:
                row = store.execute(
                    "SELECT number, ledger_lines, (SELECT count(*) FROM ledger_lines),"
                    " (SELECT sum(amount_cents) FROM ledger_lines), (SELECT sum(amount_cents) FROM balances) FROM about"
                ).fetchone()
        except duckdb.Error as error:
            wrong.append(str(error))
            continue
        assert row is not None
        number, said, lines, total, balances = row
        seen.append(number)
        if said != lines or total or balances:
            wrong.append(f"{row}")
    print(json.dumps({"seen": seen, "wrong": wrong[:5]}), flush=True)


if __name__ == "__main__":
    _main()
