"""A training curve as a drawing that a browser shows: plain SVG, the same bytes for the same points."""

import math
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 40, 44
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
STYLE = 'font-family="sans-serif" font-size="12" fill="#444"'
NUM_TICKS = 5
LOSS_UNIT = "loss"
MAX_POINTS = 400
"""More points than pixels only make the file longer."""


@dataclass(frozen=True)
class Line:
    """One quantity over optimiser steps."""

    label: str
    points: tuple[tuple[int, float], ...]
    """(step, value), by step."""


def thin(points: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Points that can be drawn: finite, sorted, at most MAX_POINTS, the first and the last among them."""
    finite = sorted((step, value) for step, value in points if math.isfinite(value))
    if len(finite) <= MAX_POINTS:
        return tuple(finite)
    last = len(finite) - 1
    return tuple(finite[round(i * last / (MAX_POINTS - 1))] for i in range(MAX_POINTS))


def loss_curve(points: list[dict[str, Any]], verb: str) -> list[Line]:
    """The losses among a journal's points: training and validation, as far as there are any."""
    return _lines(points, verb, (("loss", "training"), ("valid_loss", "validation")))


def _lines(points: list[dict[str, Any]], verb: str, shown: tuple[tuple[str, str], ...]) -> list[Line]:
    lines = []
    for key, words in shown:
        name = f"{verb}/{key}"
        found = [(point["step"], point["metrics"][name]) for point in points if name in point["metrics"]]
        if drawn := thin(found):
            lines.append(Line(words, drawn))
    return lines


PPO_LINES = (("reward", "reward"), ("valid_reward", "reward, validation"), ("kl_per_answer", "KL per answer"))


def training_curve(points: list[dict[str, Any]], verb: str) -> tuple[list[Line], str]:
    """What a training is judged by: the losses, or, where answers are rewarded, rewards and the distance.

    A loss of PPO has no unit and says nothing of how good the answers are.

    Returns:
        The lines, and what the upright axis counts.
    """
    rewarded = any(f"{verb}/kl_per_answer" in point["metrics"] for point in points)
    if not rewarded:
        return loss_curve(points, verb), LOSS_UNIT
    return _lines(points, verb, PPO_LINES), "reward; KL (nats)"


def draw(lines: list[Line], x_label: str, y_label: str) -> str:
    """An SVG drawing of lines over a common step axis; every line has at least one point."""
    steps = [step for line in lines for step, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    x_ticks, y_ticks = ticks(min(steps), max(steps)), ticks(min(values), max(values))
    x_low, x_high = min(x_ticks[0], *steps), max(x_ticks[-1], *steps)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def x(step: float) -> str:
        return f"{LEFT + (step - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT):.1f}"

    def y(value: float) -> str:
        return f"{HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tick in y_ticks:
        parts.append(f'<path d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick)}" dy="4" text-anchor="end" {STYLE}>{tick:g}</text>')
    below = HEIGHT - BOTTOM + 18
    parts += [f'<text x="{x(tick)}" y="{below}" text-anchor="middle" {STYLE}>{tick:,g}</text>' for tick in x_ticks]
    middle = (LEFT + WIDTH - RIGHT) // 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" {STYLE}>{escape(x_label)}</text>')
    parts.append(f'<text x="{LEFT - 40}" y="16" {STYLE}>{escape(y_label)}</text>')
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        corners = " ".join(f"{x(step)},{y(value)}" for step, value in line.points)
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if len(line.points) <= NUM_TICKS * 6:
            dots = [(x(step), y(value)) for step, value in line.points]
            parts += [f'<circle cx="{across}" cy="{down}" r="2.6" fill="{colour}"/>' for across, down in dots]
        place = WIDTH - RIGHT - 120 * (len(lines) - number)
        parts.append(f'<path d="M{place} 12h16" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{place + 22}" y="16" {STYLE}>{escape(line.label)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers around a range, at least two."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(number * step, 10) for number in range(first, last + 1)]
    assert all(one < other for one, other in pairwise(ticks))  # noqa: S101 - a drawing of nothing helps nobody
    return ticks
