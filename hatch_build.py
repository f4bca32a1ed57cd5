"""The package's build: it builds the web client and takes it along, as files of the package `api`."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_ROOT = Path(__file__).resolve().parent
_BUILD = str(_ROOT / "web" / "build.py")


class WebClient(BuildHookInterface[Any]):
    """In a checkout (`pip install -e`) bin/setup builds it, and it stays where it is."""

    def dependencies(self) -> list[str]:
        """Node, where the machine has none."""
        can_build = subprocess.run([sys.executable, _BUILD, "--has-node"], capture_output=True, check=False)
        if can_build.returncode == 0:
            return []
        groups = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
        return list(groups["node"])

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is filled."""
        if version != "editable":
            subprocess.run([sys.executable, _BUILD], check=True)
            build_data["force_include"][str(_ROOT / "web" / "dist")] = "api/built"
