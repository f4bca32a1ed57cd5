"""How signals reach what a supervisor's own process does before it supervises."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

_PROGRAM = """
from escarcelle.processes import Supervisor
try:
    with Supervisor() as supervisor, supervisor.undisturbed():
        print("within", flush=True)
        input()
        print("done", flush=True)
    print("after", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def program() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-u", "-c", _PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "within\n"
        yield process
        process.kill()


def test_a_first_signal_waits_for_the_end_of_what_must_not_be_disturbed(program: "subprocess.Popen[str]") -> None:
    program.send_signal(signal.SIGINT)
    assert program.communicate("go on\n", timeout=10)[0].splitlines() == ["done", "interrupted"]


def test_a_second_signal_interrupts_at_once(program: "subprocess.Popen[str]") -> None:
    program.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(timeout=0.5)
    program.send_signal(signal.SIGTERM)
    assert program.wait(timeout=10) == 0
    assert program.stdout is not None and program.stdout.read().splitlines() == ["interrupted"]


def test_without_a_signal_it_goes_on(program: "subprocess.Popen[str]") -> None:
    assert program.communicate("go on\n", timeout=10)[0].splitlines() == ["done", "after"]
