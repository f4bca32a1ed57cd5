"""An issuer's colour is legible in every theme, whatever it chose."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from domain.appearance import (
    DARK_GROUNDS,
    LEAST_CONTRAST,
    LIGHT_GROUNDS,
    MOST_MARK_BYTES,
    Shades,
    checked_accent,
    checked_mark,
    contrast,
)
from domain.errors import Refused

_STYLES = Path(__file__).parents[2] / "web" / "src" / "app.css"


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#ffffff", "#ffffff") == 1
    # The two greys that every tutorial names: just enough, just not.
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)
    assert contrast("#ffffff", "#777777") == pytest.approx(4.48, abs=0.005)


@settings(deadline=None)
@given(st.integers(0, 0xFFFFFF))
def test_every_colour_is_legible_in_both_themes(colour: int) -> None:
    shades = Shades.of(f"#{colour:06x}")
    assert min(contrast(shades.light, ground) for ground in LIGHT_GROUNDS) >= LEAST_CONTRAST
    assert min(contrast(shades.dark, ground) for ground in DARK_GROUNDS) >= LEAST_CONTRAST


def test_a_colour_that_is_legible_stays() -> None:
    assert Shades.of("#7a1f4b").light == "#7a1f4b"
    assert Shades.of("#7fd6cb").dark == "#7fd6cb"


def test_the_screens_stand_on_the_grounds_that_are_reckoned_with() -> None:
    styles = _STYLES.read_text(encoding="utf-8")
    pairs = dict(re.findall(r"--(\w[\w-]*): light-dark\((#\w+, #\w+)\)", styles))
    assert [pairs["ground"], pairs["raised"]] == [
        ", ".join(pair) for pair in zip(LIGHT_GROUNDS, DARK_GROUNDS, strict=True)
    ]
    assert pairs["on-accent"] == f"{LIGHT_GROUNDS[0]}, {DARK_GROUNDS[0]}"


@pytest.mark.parametrize("given", ["", "7a1f4b", "#7a1f4", "#7a1f4bb", "#7a1g4b", "rouge", "#７a1f4b", "#7a1f4b;"])
def test_what_is_no_colour_is_refused(given: str) -> None:
    with pytest.raises(Refused):
        checked_accent(given)


def test_a_colour_is_kept_in_small_letters() -> None:
    assert checked_accent(" #7A1F4B ") == "#7a1f4b"


@pytest.mark.parametrize("size", [(64, 64), (512, 512), (400, 100)])
def test_a_picture_that_stands_beside_a_name_is_a_mark(size: tuple[int, int]) -> None:
    content = _picture(size)
    assert checked_mark(content) == content


@pytest.mark.parametrize("size", [(63, 63), (513, 513), (401, 100), (99, 100), (20_000, 20_000)])
def test_a_picture_of_another_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(Refused):
        checked_mark(_picture(size))


def test_what_is_no_picture_is_refused() -> None:
    whole = _picture((64, 64))
    for content in (
        b"", b"<svg/>", _picture((64, 64), "JPEG"), whole[:50], whole.ljust(MOST_MARK_BYTES + 1),
        whole[:40] + b"\0\0\0\0" + whole[44:],
    ):  # fmt: skip
        with pytest.raises(Refused):
            checked_mark(content)


def _picture(size: tuple[int, int], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("1" if kind == "PNG" else "L", size).save(file, kind)
    return file.getvalue()
