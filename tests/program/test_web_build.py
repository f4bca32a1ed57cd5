"""The web client's build: what it needs, what the package takes along, and a server that has none."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.web import NOT_SCREENS, WebClient

pytestmark = pytest.mark.anyio

_ROOT = Path(__file__).parents[2]
_WEB = _ROOT / "web"


def test_the_package_takes_the_client_along(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    page = zipfile.ZipFile(wheel).read("api/built/client/index.html").decode()
    for name in re.findall(r'(?:src|href)="/([^"]+)"', page):
        assert f"api/built/client/{name}" in names
    assert {"api/built/graphiql/index.html", "api/built/client/index.html.br", "api/web.py"} <= names
    assert [name for name in names if name.startswith("web/") or "node_modules" in name] == []


def test_without_node_it_says_what_it_needs(tmp_path: Path) -> None:
    shutil.copytree(_WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules", "dist", "generated"))
    shutil.copyfile(_ROOT / "schema.graphql", tmp_path / "schema.graphql")
    # An interpreter without packages, so without that of Node, on a machine without programs.
    command = [sys.executable, "-I", "-S", str(tmp_path / "web" / "build.py")]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("The web client needs Node 20.19")
    assert done.stderr.count("\n") == 1, "a sentence, not a trace"


def test_what_is_built_and_current_is_left_alone() -> None:
    before = {path: path.stat().st_mtime_ns for path in (_WEB / "dist").rglob("*")}
    assert before, "bin/setup has built it"
    command = [sys.executable, "-I", "-S", str(_WEB / "build.py")]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in (_WEB / "dist").rglob("*")} == before


def test_every_package_has_its_hash_and_no_address() -> None:
    lock = json.loads((_WEB / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 100
    assert [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    named = json.loads((_WEB / "package.json").read_text(encoding="utf-8"))
    versions = [*named["dependencies"].values(), *named["devDependencies"].values()]
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


def test_the_service_worker_knows_which_addresses_are_no_screens() -> None:
    text = (_WEB / "src" / "service-worker.ts").read_text(encoding="utf-8")
    (names,) = re.findall(r"SERVERS = /\^\\/\(\?:([a-z|]+)\)", text)
    assert set(names.split("|")) == NOT_SCREENS


async def test_a_server_without_the_client_says_so_and_finds_it_once_it_is_built(tmp_path: Path) -> None:
    async def unbuilt(request: Request) -> Response:
        return PlainTextResponse("not built", 404)

    client = WebClient(tmp_path, unbuilt)
    app = Starlette(routes=[*client.routes()])
    app.router.default = client.screens_or(app.router.default)
    page = {"accept": "text/html"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http:
        for address in ("/", "/payments/x", "/graphiql"):
            answer = await http.get(address, headers=page)
            assert (answer.status_code, answer.text) == (404, "not built")
        assert (await http.get("/assets/a.js")).status_code == 404
        (tmp_path / "client" / "assets").mkdir(parents=True)
        (tmp_path / "client" / "assets" / "a.js").write_text("1")
        (tmp_path / "client" / "index.html").write_text("built")
        assert (await http.get("/payments/x", headers=page)).text == "built"
        assert (await http.get("/assets/a.js")).headers["content-type"].startswith("text/javascript")
        for outside in ("/assets/..%2findex.html", "/assets/%2e%2e/index.html", "/..%2f..%2fetc%2fpasswd"):
            assert (await http.get(outside)).status_code == 404
