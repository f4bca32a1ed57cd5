"""The task process: a relay and workers, until it is told to stop."""

import asyncio
import signal
from typing import Final

import structlog
from dramatiq import Worker
from redis.exceptions import RedisError

from domain import jobs, payments, sign_in, vouchers
from domain.metrics import collecting, exposed
from domain.settings import Settings
from tasks.actors import Tasks
from tasks.broker import open_broker
from tasks.lateness import LatenessCollector
from tasks.relay import Relay

log = structlog.get_logger(__name__)

FLOWS: Final = (payments, vouchers, sign_in, jobs)
"""Imported so that the deeds of their deadlines and the writers of their notices are known here."""

_FINISHING_SECONDS: Final = 10
_QUEUE_POLL_MILLISECONDS: Final = 250


def main(settings: Settings) -> None:
    """Relay and work until SIGTERM or SIGINT; then the relay stops, and the workers finish what they hold, for at most
    10 s. Raises SettingsInvalid when its metrics have no place."""
    with exposed(settings):
        asyncio.run(_until_signalled(settings))


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Relay and work until `stop` is set."""
    broker = open_broker(settings)
    Tasks(settings, broker)
    worker = Worker(broker, worker_threads=settings.worker_threads, worker_timeout=_QUEUE_POLL_MILLISECONDS)
    # Dramatiq's own command line says so; without it nothing watches the time limits.
    broker.emit_after("process_boot")
    worker.start()
    log.info("tasks_started", threads=settings.worker_threads)
    try:
        with collecting(LatenessCollector(settings)):
            await Relay(settings).run(stop)
    finally:
        await asyncio.to_thread(_stop, worker)
        broker.client.close()
        log.info("tasks_stopped")


def _stop(worker: Worker) -> None:
    try:
        worker.stop(_FINISHING_SECONDS * 1000)
    except RedisError as error:
        # What could not be put back into the queue is sent again. Dramatiq's event loop would keep the process alive.
        log.warning("queue_away", error=type(error).__name__)
        worker.broker.emit_after("worker_shutdown", worker)


async def _until_signalled(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await work(settings, stop)
