"""Curves as an SVG picture."""

import math
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from bench.measuring import Curves

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 180, 40, 50
_COLOURS: Final = ("#1b5e9c", "#c0392b", "#2e7d32", "#8e44ad", "#b9770e")


def draw(curves: Curves, file: Path) -> None:
    """Write the picture; the quantity across is drawn by its logarithm, since it is doubled from point to point."""
    every = [point for points in curves.points.values() for point in points]
    low, high = (math.log(pick(across for across, _ in every)) for pick in (min, max))
    top = _round_number(max(upwards for _, upwards in every))

    def at(across: float, upwards: float) -> tuple[float, float]:
        share = (math.log(across) - low) / (high - low) if high > low else 0.5
        return (
            _LEFT + share * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - upwards / top * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22">{escape(curves.title)}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 10}">{escape(curves.across)}</text>',
        f'<text x="8" y="{_TOP - 4}">{escape(curves.upwards)}</text>',
    ]
    for step in range(6):
        x, y = at(math.exp(low), top * step / 5)
        parts.append(f'<path d="M{x:.0f} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{top * step / 5:g}</text>')
    for across in sorted({across for across, _ in every}):
        x, y = at(across, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{across:g}</text>')
    for n, (name, points) in enumerate(curves.points.items()):
        colour = _COLOURS[n % len(_COLOURS)]
        places = [at(*point) for point in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        parts.append(f'<text x="{_WIDTH - _RIGHT + 12}" y="{_TOP + 18 * n}" fill="{colour}">{escape(name)}</text>')
    file.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


def _round_number(value: float) -> float:
    """The next 1, 2 or 5 with zeros."""
    return next(number for number in _numbers(value) if number >= value)


def _numbers(value: float) -> Iterator[float]:
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    yield from (power, 2 * power, 5 * power, 10 * power)
