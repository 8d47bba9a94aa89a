"""Histograms as inline SVG, for pages that load nothing; colours come from the page's own style."""

from collections.abc import Callable

CHART_WIDTH, CHART_HEIGHT = 560, 150
MOST_LABELS = 9


def bar_chart(edges: list[float], counts: list[int]) -> str:
    """A histogram as inline SVG; bins stand side by side with equal width, whatever their edges."""
    first = next((place for place, count in enumerate(counts) if count), 0)
    last = max((place for place, count in enumerate(counts) if count), default=0)
    shown, bounds = counts[first : last + 1], edges[first : last + 2]
    most, width = max(max(shown), 1), CHART_WIDTH / len(shown)
    labels = _every(len(bounds), MOST_LABELS)
    bars = "".join(_bar(place, count, most, width, bounds) for place, count in enumerate(shown))
    ticks = "".join(
        f'<text x="{place * width:.1f}" y="{CHART_HEIGHT + 15}" text-anchor="{_anchor(place, len(bounds))}">'
        f"{bounds[place]:,g}</text>"
        for place in range(len(bounds))
        if labels(place)
    )
    base = f'<line x1="0" x2="{CHART_WIDTH}" y1="{CHART_HEIGHT}" y2="{CHART_HEIGHT}"/>'
    return f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT + 20}" role="img">{bars}{base}{ticks}</svg>'


def _bar(place: int, count: int, most: int, width: float, bounds: list[float]) -> str:
    height = (CHART_HEIGHT - 12) * count / most
    said = f"{bounds[place]:,g} to {bounds[place + 1]:,g}: {count:,} records"
    return (
        f'<rect x="{place * width + 1:.1f}" y="{CHART_HEIGHT - height:.1f}" width="{max(width - 2, 1):.1f}" '
        f'height="{height:.1f}"><title>{said}</title></rect>'
    )


def _every(num_places: int, most: int) -> Callable[[int], bool]:
    """Which of so many places get a label, so that at most `most` do."""
    gap = -(-num_places // most)
    return lambda place: place % gap == 0


def _anchor(place: int, num_places: int) -> str:
    return "start" if place == 0 else "end" if place == num_places - 1 else "middle"
