"""The client understands an amount as the server does, in what it shows before anything is sent. No browser is needed:
the function is asked as it stands."""

import json
import os
import random
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final

from domain import money
from domain.errors import Refused

_WEB: Final = Path(__file__).parents[2] / "web"
_ASKED: Final = """
import { readFileSync } from "node:fs";
import typescript from "typescript";
const [path, texts] = JSON.parse(readFileSync(0, "utf-8"));
const compilerOptions = { module: "ESNext", target: "ES2022" };
const { outputText } = typescript.transpileModule(readFileSync(path, "utf-8"), { compilerOptions });
const { centsOf, decimal } = await import(`data:text/javascript,${encodeURIComponent(outputText)}`);
const understood = texts.map(centsOf);
console.log(JSON.stringify(understood.map((cents) => [cents, cents === null ? null : decimal(cents)])));
"""

_CASES: Final = (
    "20", "20,00", "20.00", "20,5", "0", "0,01", "007", "  20,00  ", "\u00a020,00\n", "1 234,56", "1\u202f234,56",
    "1\u2009234", "1,234.56", "1.234,56", "1,234,567.89", "1.234.567", "+5", "-5,00", "\u22125", "- 5,00 €", "-0",
    "40,00\u00a0€", "€40.00", "-€40.00", "€-40.00", "€1,235.00", "9 999 999 999,99", "-9999999999.99",
    "", "€", " ", "abc", "40 00", "20€5", "2 0", "1,234", "1.234", "1,2345", "1 23", "12 34,5", "1,234,56", "0 123",
    "1,23,456", "1 234,567", "1.234.56", "€20€", "20,", ",20", "--5", "5-", "1e3", "NaN", "Infinity", "0x10",
    "١٢", "10 000 000 000", "1" * 33, "  " * 17, "1\n234",
)  # fmt: skip
"""What people type; what the domain makes of each is its own affair (tests/domain/test_money.py)."""


def test_G2_the_client_understands_what_the_server_understands_and_nothing_else() -> None:
    seed = int(os.environ.get("ESCARCELLE_TEST_SEED") or secrets.randbits(32))
    print(f"ESCARCELLE_TEST_SEED={seed}")
    chance = random.Random(seed)
    texts = [
        *_CASES,
        *("".join(chance.choices("0123456789 .,€-\u202f", k=chance.randint(1, 9))) for _ in range(20_000)),
    ]
    node = shutil.which("node")
    assert node is not None, "the tests of the client have been set up"
    asked = json.dumps([str(_WEB / "src" / "lib" / "amounts.ts"), texts])
    command = [node, "--input-type=module", "-e", _ASKED]
    done = subprocess.run(command, cwd=_WEB, input=asked, capture_output=True, text=True, check=True)
    for text, (cents, decimal) in zip(texts, json.loads(done.stdout), strict=True):
        assert (cents, decimal) == _understood(text), repr(text)


def _understood(text: str) -> tuple[int, str] | tuple[None, None]:
    try:
        cents = money.cents(text, "amount")
    except Refused:
        return None, None
    return cents, money.decimal(cents)
