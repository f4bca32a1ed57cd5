"""What may stand in the repository: nothing of one machine, nothing large, nothing without its reason."""

import re
import tomllib
from pathlib import Path

from tests.house.source import ROOT, calls, files, modules

LARGEST_BYTES = 512 * 1024
REQUIREMENTS = (
    "P14", "P15", "P16", "P18", "P20", "P21", "P23", "P24", "P28", "P29",
    "H2", "AP3", "AP4", "AP5", "AP6",
)  # fmt: skip
"""Rules of the manual that a test must carry in its name."""

MACHINE = re.compile(r"(?<![A-Za-z0-9_.\-}])/(?:work|root|home|Users|tmp|var/folders)/|\b[A-Z]:\\Users\\")
REGISTRY = re.compile(
    r"(?:pypi|pythonhosted|npmjs|yarnpkg|crates|rubygems)\.(?:org|com|io)|--(?:extra-)?index-url",
    re.IGNORECASE,
)


def test_files_are_found() -> None:
    """Else the rules below would hold for nothing."""
    assert {"pyproject.toml", "requirements.lock", "domain/work.py"} <= {_name(path) for path in files()}


def test_no_path_of_a_machine() -> None:
    assert _lines_with(MACHINE) == []
    own = re.compile("|".join(re.escape(str(place)) for place in (ROOT, Path.home()) if len(place.parts) > 2) or r"\Z.")
    assert _lines_with(own) == []


def test_no_address_of_a_package_registry() -> None:
    """Everyone installs from their own."""
    assert _lines_with(REGISTRY) == []


def test_lock_files_hold_no_address_and_every_hash() -> None:
    for path in files():
        if path.suffix == ".lock":
            text = path.read_text(encoding="utf-8")
            assert "://" not in text, path.name
            pinned = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", text))
            assert [line[:60] for line in pinned if line.strip() and "--hash=sha256:" not in line] == []


def test_no_file_is_large() -> None:
    assert [_name(path) for path in files() if path.stat().st_size > LARGEST_BYTES] == []


def test_every_dependency_says_why_it_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    for dependency in [*project["dependencies"], *extras]:
        assert re.search(rf'^  "{re.escape(dependency)}", *# \S.+$', text, re.MULTILINE), dependency


def test_requirements_are_carried_by_the_names_of_tests() -> None:
    names = [
        node for module in modules("tests") for node in re.findall(r"def (test_\w+)", module.path.read_text("utf-8"))
    ]
    carried = {code for name in names for code in re.findall(r"(?<![A-Za-z])[A-Z]{1,2}\d+(?!\d)", name)}
    assert set(REQUIREMENTS) - carried == set()


def test_tests_wait_for_what_happens_instead_of_sleeping() -> None:
    """A short sleep in a loop that looks again is how one polls; a long one is a guess."""
    wrong = []
    for module in modules("tests"):
        for name, call in calls(module.tree):
            seconds = getattr(call.args[0], "value", None) if name == "sleep" and call.args else None
            if isinstance(seconds, int | float) and seconds > 0.2:
                wrong.append(module.at(call))
    assert wrong == []


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{_name(path)}:{n}" for n, line in enumerate(lines, start=1) if pattern.search(line)]
    return found


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
