"""Logs: one JSON object a line on the error output, or plain lines for people. No secret and no personal data stand in
them: what is logged is chosen word by word, and an error is told without its own words, which may hold an address, a
link or a row. Of what libraries log, only the sentence is kept, without what it was filled with."""

import errno
import logging
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

import orjson
import structlog

from domain.settings import LogFormat

log = structlog.get_logger(__name__)

_MOST_ERRORS: Final = 20
_AGAIN_SECONDS: Final = 60
_FILLED_IN_BY_ASYNCIO: Final = re.compile(r"[<(].*", re.DOTALL)


def configure(log_format: LogFormat) -> None:
    """From now on this process logs so, its libraries from warnings on, and an error that nobody catches as well."""
    # Who hangs up leaves what it asked for unfinished: Python would say so in words that are no line of a log.
    warnings.filterwarnings("ignore", r"coroutine '(Executor|GraphQLCoreConverter)\.", RuntimeWarning)
    if log_format is LogFormat.AUTO:
        log_format = LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=orjson.dumps)
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda thrown: _uncaught(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)


def without_words(error: BaseException) -> str:
    """What went wrong and where, causes last: a traceback that says the kinds of the errors and none of their words."""
    lines: list[str] = []
    for each in _with_causes(error):
        lines += [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(each.__traceback__)]
        lines.append(_kind(each))
    return "\n".join(lines)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    known: set[int] = set()
    left: list[BaseException | None] = [error]
    while left and len(known) < _MOST_ERRORS:
        each = left.pop(0)
        if each is None or id(each) in known:
            continue
        known.add(id(each))
        yield each
        left += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        left.append(each.__cause__ if each.__suppress_context__ else each.__cause__ or each.__context__)


def _kind(error: BaseException) -> str:
    """Its class, and the numbers and names of a schema that some errors carry."""
    facts = [
        errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None,
        *(getattr(error, name, None) for name in ("sqlstate", "table_name", "constraint_name")),
    ]
    known = " ".join(fact for fact in facts if isinstance(fact, str))
    return f"{type(error).__module__}.{type(error).__qualname__}" + (f" [{known}]" if known else "")


class _Lines:
    """Writes lines to the error output. What reads them may go away; the program goes on."""

    def __init__(self, *_: object) -> None:
        # Not before it is asked for a line: whoever tests may have put another output in its place.
        self._descriptor = sys.stderr.fileno()

    def msg(self, line: str | bytes) -> None:
        """One line."""
        with suppress(OSError):
            os.write(self._descriptor, (line if isinstance(line, bytes) else line.encode(errors="replace")) + b"\n")

    debug = info = warning = error = critical = fatal = exception = log = msg


class _FromLibraries(logging.Handler):
    """What libraries log, without what they fill their sentences with."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(_NotAgainAndAgain())

    def emit(self, record: logging.LogRecord) -> None:
        """Log it as ours."""
        sentence = str(record.msg).partition("\n")[0]
        if record.name == "asyncio":
            # It fills in before it logs.
            sentence = _FILLED_IN_BY_ASYNCIO.sub("…", sentence)
        facts: dict[str, Any] = {"library": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            facts["error"] = without_words(record.exc_info[1])
        log.log(record.levelno, sentence, **facts)


class _NotAgainAndAgain(logging.Filter):
    """While Redis is away Dramatiq says so every second, for each queue: once a minute is enough."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is new, or its like has not been seen for a minute."""
        if not record.name.startswith("dramatiq."):
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now < self._next.get(key, now):
            return False
        self._next[key] = now + _AGAIN_SECONDS
        return True


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        log.critical("crashed", error=without_words(error.with_traceback(trace)))
