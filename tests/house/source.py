"""The project's own files, read and parsed: what the rules are checked on."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "reporting", "api", "tasks", "escarcelle")


@dataclass(frozen=True)
class Module:
    """One Python file."""

    name: str
    path: Path
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Where a piece of it stands: "domain/work.py:12"."""
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


@dataclass(frozen=True)
class Import:
    """One module that another names. Importing a name from a package is importing what defines the package."""

    by: Module
    of: str
    node: ast.stmt

    def __str__(self) -> str:
        return f"{self.by.at(self.node)} imports {self.of}"


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Every module in these folders of the project."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(Module(_name(path), path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def imports(module: Module) -> Iterator[Import]:
    """What a module imports, wherever in it."""
    known = {other.name for other in modules(*PACKAGES)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node)
        elif isinstance(node, ast.ImportFrom):
            package = node.module or "."
            for of in {f"{package}.{a.name}" if f"{package}.{a.name}" in known else package for a in node.names}:
                yield Import(module, of, node)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the last word of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id, node
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr, node


def literal(node: ast.AST | None) -> str | None:
    """The text of a string that stands there, or None."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project, but for those that .gitignore names."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line] + [".git"]

    def under(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if not any(fnmatch(path.name, pattern) for pattern in ignored):
                yield from under(path) if path.is_dir() else [path]

    return tuple(under(ROOT))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
