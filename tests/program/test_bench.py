"""The benchmarks run, and audit what they wrote. How fast anything is, is not asserted: this machine is shared."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.__main__ import LINES

_ROOT = Path(__file__).parents[2]


def test_a_quick_line_says_how_it_stands_to_its_limit_and_its_books_agree() -> None:
    (line,) = _bench("list", "--quick", "--json", "--rounds", "1")
    assert set(line) == {"name", "ratio", "first_target", "target", "ok", "rounds", "spent", "audit"}
    assert line["name"] == "list"
    assert line["rounds"] == [line["ratio"]]
    assert line["ratio"] > 0
    assert line["ok"] == (line["ratio"] <= 17)
    assert line["audit"] == "ok"


def test_every_line_is_measured_and_drawn() -> None:
    assert list(LINES) == [
        "pay", "busy-merchant", "vouchers", "list", "subscribers", "relay", "deadlines", "copy", "excel",
        "client",
    ]  # fmt: skip


def test_an_unknown_line_is_refused() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "bench", "lisst"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "no such line: lisst" in refused.stderr


def _bench(*arguments: str) -> list[dict[str, Any]]:
    """What it prints; 1 is its exit code when a target is missed, which says nothing here."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode in (0, 1), ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]
