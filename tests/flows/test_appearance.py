"""An issuer shows itself by its own colour and mark: before signing in, after it, and in mails."""

import asyncio
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from domain.appearance import OWN_ACCENT, Shades
from escarcelle.clients import Client
from tests.flows.cast import assembled
from tests.world import Running, World, environment

pytestmark = pytest.mark.anyio

_CARD = "query ($slug: String!) { issuer(slug: $slug) { appearance { accentLight accentDark markPath } } }"
_VIEWER = "{ viewer { issuer { appearance { accentLight accentDark markPath } } } }"


async def test_an_issuers_colour_and_mark_are_shown_to_everyone(world: World, running: Running, tmp_path: Path) -> None:
    picture = tmp_path / "marque.png"
    picture.write_bytes(mark("#f2b63c"))
    async with assembled(world, running) as cast, Client(running.url) as anyone:
        assert await _shown(anyone, world.slug) == _of(OWN_ACCENT)

        said = await _set(world, "--accent", "#F2B63C", "--mark", str(picture))
        assert said == f"{world.slug}: {_light()} on light screens, #f2b63c on dark ones, mark marque.png\n"
        shown = await _shown(anyone, world.slug)
        path = shown.pop("markPath")
        assert shown == {"accentLight": _light(), "accentDark": "#f2b63c"}
        data = await cast.ines.ask(_VIEWER)
        assert data["viewer"]["issuer"]["appearance"] == {**shown, "markPath": path}

        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.content == picture.read_bytes()
            for wrong in (path[:-1] + "x", f"/marks/{world.slug}/", "/marks/personne/00", "/marks/%00/00"):
                assert (await http.get(wrong)).status_code == 404, wrong

        await _set(world, "--accent", "#7a1f4b")
        assert await _shown(anyone, world.slug) == {**_of("#7a1f4b"), "markPath": path}
        await _set(world, "--no-mark")
        assert await _shown(anyone, world.slug) == _of("#7a1f4b")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--accent", "mauve"), "#7a1f4b"),
        (("--mark", "{no_picture}"), "PNG"),
        (("--mark", "{picture}", "--no-mark"), "--no-mark"),
        ((), "--accent"),
    ],
)
async def test_what_cannot_be_shown_is_refused_and_changes_nothing(
    world: World, tmp_path: Path, given: tuple[str, ...], says: str
) -> None:
    (tmp_path / "a.png").write_bytes(mark("#7a1f4b"))
    (tmp_path / "b.png").write_bytes(b"GIF89a")
    named = {"picture": str(tmp_path / "a.png"), "no_picture": str(tmp_path / "b.png")}
    before = await world.digest()
    done = await _command(world, *(each.format(**named) for each in given))
    assert done.returncode != 0
    assert says in done.stderr
    assert await world.digest() == before


def mark(colour: str) -> bytes:
    """A square of one colour, as PNG."""
    file = io.BytesIO()
    Image.new("RGB", (96, 96), colour).save(file, "PNG")
    return file.getvalue()


def _light() -> str:
    """Yellow cannot be read on white: a darker one stands for it."""
    shade = Shades.of("#f2b63c").light
    assert shade != "#f2b63c"
    return shade


def _of(colour: str) -> dict[str, Any]:
    shades = Shades.of(colour)
    return {"accentLight": shades.light, "accentDark": shades.dark, "markPath": None}


async def _shown(client: Client, slug: str) -> dict[str, Any]:
    data = await client.ask(_CARD, slug=slug)
    found: dict[str, Any] = data["issuer"]["appearance"]
    return found


async def _set(world: World, *given: str) -> str:
    done = await _command(world, *given)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def _command(world: World, *given: str) -> "subprocess.CompletedProcess[str]":
    """What an operator types."""
    command = [sys.executable, "-m", "escarcelle", "issuer", "appearance", "--slug", world.slug, *given]
    return await asyncio.to_thread(
        subprocess.run, command, env=environment(world.servers.settings), capture_output=True, text=True, check=False
    )
