"""Keeps the programs of one machine running: starts them, starts again what dies, stops them in reverse order."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Self

import structlog

from escarcelle import tied

log = structlog.get_logger(__name__)

_FIRST_BACK_OFF_SECONDS = 0.2
_LONGEST_BACK_OFF_SECONDS = 5.0
_EARLY_SECONDS = 10
_EARLY_DEATHS_ALLOWED = 5


@dataclass(slots=True)
class Program:
    """Something to keep running. `launch` starts it and returns at once; `process` is it, if it runs already."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 10
    process: subprocess.Popen[bytes] | None = None
    started_at: float = field(default=0, init=False)
    early_deaths: int = field(default=0, init=False)
    next_start_at: float | None = field(default=None, init=False)

    def start(self) -> None:
        """Launch it, unless it runs already."""
        if self.process is None or self.process.poll() is not None:
            self.process = self.launch()
        self.started_at = time.monotonic()
        self.next_start_at = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.poll() is None


def python_program(
    name: str, *arguments: str, environment: Mapping[str, str], keeps: Sequence[int] = (), grace_seconds: float = 10
) -> Program:
    """One of this program's own commands (`escarcelle ARGUMENTS…`), as a process that dies with this one: suddenly
    (SIGKILL), which it must stand at any time anyway. It inherits the file descriptors of `keeps`."""

    def launch() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            tied.command([sys.executable, "-m", "escarcelle", *arguments], dies_by=signal.SIGKILL),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            pass_fds=tuple(keeps),
            # A Ctrl-C at the terminal is for the supervisor, which stops its children in order.
            start_new_session=True,
        )

    return Program(name, launch, grace_seconds=grace_seconds)


class Supervisor:
    """Runs programs until SIGINT, SIGTERM or SIGHUP. To be used, as a context, in the main thread.

    What it starts together it stops together; groups are stopped in reverse order when the context ends. A second
    signal while they stop kills what is left. Until `run` is called, a signal interrupts as Ctrl-C does
    (KeyboardInterrupt), but for what is `undisturbed`. `changed` hears the process numbers by name whenever they
    change."""

    def __init__(self, changed: Callable[[Mapping[str, int]], None] = lambda _: None) -> None:
        self._changed = changed
        self._groups: list[tuple[Program, ...]] = []
        self._signals = 0
        self._supervises = False
        self._waits = False

    def __enter__(self) -> Self:
        self._waking, self._woken = socket.socketpair()
        for end in (self._waking, self._woken):
            end.setblocking(False)
        self._former_wakeup = signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        # Under nohup, SIGHUP stays ignored.
        heard = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
        heard += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
        self._former = {number: signal.signal(number, self._on_signal) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._supervises = True
        for group in reversed(self._groups):
            self._stop(group)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_wakeup)
        self._waking.close()
        self._woken.close()

    def start(self, *programs: Program) -> None:
        """Start a group of programs."""
        self._groups.append(programs)
        for program in programs:
            program.start()
        self._tell()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """For what must not be interrupted at any place, such as compiled code: a first signal waits for the end of the
        context and interrupts there; a second interrupts at once."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self._signals:
            raise KeyboardInterrupt

    def run(self, until: Callable[[], bool] | None = None) -> int | None:
        """Keep the programs running. Returns an exit code: 0 when a signal asked to stop, 1 when a program kept dying;
        or None as soon as `until`, asked ten times a second, is true."""
        self._supervises = True
        # An event loop that ran in between may have taken this away.
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        while self._signals == 0:
            if until is not None and until():
                return None
            for program in self._programs():
                if not program.runs and not self._revive(program):
                    return 1
            starts = [program.next_start_at for program in self._programs() if program.next_start_at is not None]
            next_look = min(starts, default=time.monotonic() + 1) - time.monotonic()
            self._wait(min(next_look, 0.1) if until is not None else next_look)
        return 0

    def _programs(self) -> list[Program]:
        return [program for group in self._groups for program in group]

    def _revive(self, program: Program) -> bool:
        """Start what died again, now or a little later; False when it has died too often."""
        assert program.process is not None
        now = time.monotonic()
        if program.next_start_at is None:
            program.early_deaths = program.early_deaths + 1 if now - program.started_at < _EARLY_SECONDS else 1
            about = {"program": program.name, "how": _how_it_ended(program.process.returncode)}
            if program.early_deaths >= _EARLY_DEATHS_ALLOWED:
                log.error("program_given_up", **about, times_in_a_row=program.early_deaths)
                return False
            back_off = min(_FIRST_BACK_OFF_SECONDS * 2 ** (program.early_deaths - 1), _LONGEST_BACK_OFF_SECONDS)
            log.warning("program_ended", **about, starts_again_in_seconds=back_off)
            program.next_start_at = now + back_off
        elif now >= program.next_start_at:
            program.start()
            self._tell()
        return True

    def _stop(self, group: Sequence[Program]) -> None:
        for program in group:
            _send(program, program.stop_signal)
        asked_at = time.monotonic()
        while any(program.runs for program in group):
            waited = time.monotonic() - asked_at
            hurried = self._signals > 1
            for program in group:
                if program.runs and (hurried or waited > program.grace_seconds):
                    _send(program, program.kill_signal)
                if program.runs and waited > program.grace_seconds + 5:
                    _send(program, signal.SIGKILL)
            self._wait(0.1)

    def _tell(self) -> None:
        self._changed({program.name: program.process.pid for program in self._programs() if program.process})

    def _wait(self, seconds: float) -> None:
        """Sleep until a child ends, a signal comes or the time is over."""
        select.select([self._waking], [], [], max(seconds, 0))
        with suppress(BlockingIOError):
            self._waking.recv(4096)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self._signals += 1
        if not self._supervises and not (self._waits and self._signals == 1):
            raise KeyboardInterrupt


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended by itself with code {code}"


def _send(program: Program, number: signal.Signals) -> None:
    if program.process is not None and program.process.poll() is None:
        os.kill(program.process.pid, number)
