"""Scores as drawings that a browser shows: plain SVG, the same bytes for the same numbers."""

import math
from dataclasses import dataclass
from html import escape

from components.comparison import Comparison, PairedTest
from components.curve import COLOURS, STYLE, ticks

WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 230, 250, 44, 46
ROW = 26
WORSE, BETTER, UNCLEAR, THEIRS = "#d62728", "#2ca02c", "#777", "#999"
SCATTER_HEIGHT = 420
REACH = 1.25
"""Of the axis beyond the widest finite gain."""


def _svg(width: int, height: int, title: str, parts: list[str]) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="20" font-weight="bold" {STYLE}>{escape(title)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {STYLE}>{escape(words)}</text>'


# ---- two models ------------------------------------------------------------------------------------------------------


def forest(comparison: Comparison, one: str, other: str) -> str:
    """The gain of one model over another on each measure with its interval, in percent of the first one's score.

    Measures have units of their own, so a common axis needs the share; the numbers stand beside.

    Args:
        comparison: its tests.
        one: the first model.
        other: the model whose gains are drawn.
    """
    tests = comparison.tests
    shares = [[_share(test, value) for value in (test.gain, test.low, test.high)] for test in tests]
    finite = [abs(value) for values in shares for value in values if math.isfinite(value)]
    axis = ticks(-REACH * max([*finite, 1.0]), REACH * max([*finite, 1.0]))
    height = TOP + ROW * len(tests) + BOTTOM

    def x(value: float) -> float:
        clipped = min(max(value, axis[0]), axis[-1])
        return LEFT + (clipped - axis[0]) / (axis[-1] - axis[0]) * (WIDTH - LEFT - RIGHT)

    foot = height - BOTTOM + 4
    parts = [
        f'<path d="M{x(tick):.1f} {TOP - 8}V{foot}" stroke="{"#888" if tick == 0 else "#e4e4e4"}"/>' for tick in axis
    ]
    parts += [_text(x(tick), foot + 16, f"{tick:+g} %" if tick else "0", "middle") for tick in axis]
    parts.append(_text(LEFT, foot + 34, f"worse than {one}"))
    parts.append(_text(WIDTH - RIGHT, foot + 34, "better", "end"))
    for place, (test, (gain, low, high)) in enumerate(zip(tests, shares, strict=True)):
        y = TOP + ROW * place + ROW / 2
        colour = {"better": BETTER, "worse": WORSE}.get(test.verdict, UNCLEAR)
        parts.append(_text(12, y + 4, f"{test.task}: {test.measure.name}"[:34]))
        parts.append(f'<path d="M{x(low):.1f} {y}H{x(high):.1f}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x(gain):.1f}" cy="{y}" r="4.5" fill="{colour}"/>')
        told = f"{test.champion:.4g} → {test.challenger:.4g}, {test.words}"
        parts.append(_text(WIDTH - RIGHT + 12, y + 4, told))
    return _svg(WIDTH, height, f"{other} beside {one}, intervals of 95 %", parts)


def _share(test: PairedTest, value: float) -> float:
    scale = abs(test.champion) or abs(test.challenger) or 1.0
    return 100 * value / scale


# ---- many models -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One model's score on one task."""

    model: str
    value: float
    error: float | None = None
    """Its standard error."""


def bars(groups: dict[str, list[Bar]], title: str) -> str:
    """Scores of several models on each of several tasks, each with a scale of its own from 0.

    Args:
        groups: task and metric -> a bar for each model that has it.
        title: above.
    """
    models = list(dict.fromkeys(bar.model for group in groups.values() for bar in group))
    colours = {model: COLOURS[place % len(COLOURS)] for place, model in enumerate(models)}
    parts: list[str] = []
    y = float(TOP)
    for name, group in groups.items():
        most = max([abs(bar.value) + (bar.error or 0) for bar in group] + [1e-12])
        parts.append(_text(12, y + 4, name))
        y += 12
        for bar in group:
            length = abs(bar.value) / most * (WIDTH - LEFT - RIGHT)
            said = f"{bar.value:.4g}" + (f" ± {bar.error:.2g}" if bar.error is not None else "")
            parts.append(_text(LEFT - 8, y + 11, bar.model[:34], "end"))
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="14" fill="{colours[bar.model]}"/>')
            if bar.error is not None:
                reach = bar.error / most * (WIDTH - LEFT - RIGHT)
                parts.append(f'<path d="M{LEFT + length - reach:.1f} {y + 7}h{2 * reach:.1f}" stroke="black"/>')
            parts.append(_text(LEFT + length + 10, y + 11, said))
            y += 18
        y += 16
    return _svg(WIDTH, int(y + 10), title, parts)


@dataclass(frozen=True)
class Point:
    """One model: how large it is, and its score."""

    model: str
    num_parameters: int
    value: float
    is_ours: bool


def scatter(points: list[Point], title: str, y_label: str) -> str:
    """Score against parameters, on a logarithmic axis; ours in colour among the published ones."""
    low = math.floor(math.log10(min(point.num_parameters for point in points)))
    high = math.ceil(math.log10(max(point.num_parameters for point in points)))
    high = max(high, low + 1)
    axis = ticks(min(point.value for point in points), max(point.value for point in points))
    left, right = 70, 40

    def x(parameters: float) -> float:
        return left + (math.log10(parameters) - low) / (high - low) * (WIDTH - left - right)

    def y(value: float) -> float:
        share = (value - axis[0]) / (axis[-1] - axis[0])
        return SCATTER_HEIGHT - BOTTOM - share * (SCATTER_HEIGHT - TOP - BOTTOM)

    parts = [f'<path d="M{left} {y(tick):.1f}H{WIDTH - right}" stroke="#e4e4e4"/>' for tick in axis]
    parts += [_text(left - 8, y(tick) + 4, f"{tick:g}", "end") for tick in axis]
    parts += [
        _text(x(10**power), SCATTER_HEIGHT - BOTTOM + 18, _size(power), "middle") for power in range(low, high + 1)
    ]
    parts.append(_text(left, TOP - 8, y_label))
    parts.append(_text(WIDTH - right, SCATTER_HEIGHT - 8, "parameters", "end"))
    places: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda each: (each.is_ours, each.num_parameters, each.value)):
        colour, across, down = (COLOURS[1] if point.is_ours else THEIRS), x(point.num_parameters), y(point.value)
        parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{6 if point.is_ours else 4}" fill="{colour}"/>')
        at = _free(places, across, down)
        anchor, shift = ("end", -9) if across > WIDTH * 0.62 else ("start", 9)
        parts.append(_text(across + shift, at + 4, f"{point.model.removeprefix('rinna/')} {point.value:.4g}", anchor))
    return _svg(WIDTH, SCATTER_HEIGHT, title, parts)


def _free(places: list[tuple[float, float]], across: float, down: float) -> float:
    """Where the words of a point stand without covering others near it."""
    at = down
    while any(abs(x - across) < 220 and abs(y - at) < 12 for x, y in places):
        at += 12
    places.append((across, at))
    return at


def _size(power: int) -> str:
    for unit, name in ((9, "B"), (6, "M"), (3, "k")):
        if power >= unit:
            return f"{10 ** (power - unit):,}{name}"
    return f"{10**power:,}"
