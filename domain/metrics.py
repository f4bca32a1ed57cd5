"""Metrics: everything that this program counts for Prometheus, and the port where it reads them.

Each process shows its own on a port of its own, never on the public one. Labels are words of the program: root fields
of the schema, topics, codes; never what somebody sent."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import REGISTRY, GaugeMetricFamily
from prometheus_client.registry import Collector

from domain.db import Database
from domain.settings import Settings, SettingsInvalid

disable_created_metrics()  # type: ignore[no-untyped-call]

# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────────────

OPERATIONS: Final = Counter(
    "escarcelle_operations",
    "Operations, by root field. outcome: ok; refused by a rule, with its code; rejected before it ran; failed.",
    ("kind", "field", "outcome", "code"),
)
OPERATION_SECONDS: Final = Histogram(
    "escarcelle_operation_seconds",
    "How long an operation took, by its root field, or “several”.",
    ("field",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SUBSCRIPTIONS: Final = Gauge("escarcelle_subscriptions", "Open subscriptions, by root field.", ("field",))
SOCKETS: Final = Gauge("escarcelle_sockets", "Open WebSockets.")
RESPONSES: Final = Counter(
    "escarcelle_http_responses",
    "HTTP responses, by the route's template and the class of the status.",
    ("route", "status"),
)

# ── relay and workers ─────────────────────────────────────────────────────────────────────────────────────────────────

RELAYED: Final = Counter(
    "escarcelle_relayed", "Outbox rows handed on by this relay, by topic, again included.", ("topic",)
)
MESSAGES: Final = Counter(
    "escarcelle_messages",
    "Messages a worker has finished with. outcome: delivered, failed (tried again later), given_up (a dead letter).",
    ("topic", "outcome"),
)
DELIVERY_SECONDS: Final = Histogram(
    "escarcelle_delivery_seconds", "How long a worker took to deliver a message or to fail, by topic.", ("topic",)
)
DEADLINES: Final = Counter(
    "escarcelle_deadlines", "Deadlines fired by this worker. outcome: done, failed.", ("outcome",)
)
JOBS: Final = Counter(
    "escarcelle_jobs", "Runs of jobs. outcome: done, failed, refused, broken_off, overtaken.", ("outcome",)
)
JOBS_RUNNING: Final = Gauge("escarcelle_jobs_running", "Jobs under way in this process.")
COPIES: Final = Counter(
    "escarcelle_copies", "Nightly copies for analysts that this worker has begun. outcome: done, failed.", ("outcome",)
)
TIDIED: Final = Counter("escarcelle_tidied", "Old rows removed by this relay, by table.", ("table",))


class Pools(Collector):
    """The database connections of one process, as they are when Prometheus asks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing to look at before the first scrape."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample for each pool and state."""
        connections = GaugeMetricFamily(
            "escarcelle_database_connections", "Open database connections.", labels=("pool", "state")
        )
        most = GaugeMetricFamily("escarcelle_database_connections_most", "How many it may open.", labels=("pool",))
        waiting = GaugeMetricFamily(
            "escarcelle_database_waiting", "Deeds or questions that wait for a connection.", labels=("pool",)
        )
        for pool, use in self._database.use().items():
            connections.add_metric((pool, "in_use"), use.in_use)
            connections.add_metric((pool, "idle"), max(0, use.open - use.in_use))
            most.add_metric((pool,), use.most)
            waiting.add_metric((pool,), use.waiting)
        yield from (connections, most, waiting)


@contextmanager
def collecting(collector: Collector) -> Iterator[None]:
    """As long as this lasts, Prometheus sees what it collects too."""
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


@contextmanager
def exposed(settings: Settings) -> Iterator[None]:
    """As long as this lasts, the process's metrics can be read at METRICS_PORT, when there is one. Raises
    SettingsInvalid when it cannot be listened on."""
    if settings.metrics_port is None:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host)
    except OSError as error:
        raise SettingsInvalid(
            f"METRICS_PORT: {settings.metrics_host}:{settings.metrics_port} cannot be listened on ({error.strerror})"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
