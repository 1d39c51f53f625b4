"""Charts: drawn as SVG on the server, without a script, with a text alternative.

Colours are classes of the style sheet, so that they follow the theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

#: Size of a chart in its own units; the page scales it.
WIDTH, HEIGHT = 720, 160
#: Room for labels below and beside the bars.
BOTTOM, LEFT = 18, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One number for each period, of one kind, such as ``succeeded``."""

    kind: str
    name: str
    values: Sequence[int]


def bars(series: Sequence[Series], *, labels: Sequence[str], title: str) -> SafeString:
    """Return stacked bars, one for each label; a bar tells its numbers when pointed at."""
    count = len(labels)
    totals = [sum(one.values[index] for one in series) for index in range(count)]
    top = nice(max(totals, default=0))
    step = (WIDTH - LEFT) / max(1, count)
    height = HEIGHT - BOTTOM
    shapes = []
    for index in range(count):
        below = 0.0
        rects = []
        for one in series:
            size = height * one.values[index] / top
            if size:
                rects.append(
                    format_html(
                        '<rect class="webhooks-fill-{}" x="{}" y="{}" width="{}" height="{}"/>',
                        one.kind,
                        f"{LEFT + index * step + step * 0.1:.1f}",
                        f"{height - below - size:.1f}",
                        f"{step * 0.8:.1f}",
                        f"{size:.1f}",
                    )
                )
            below += size
        words = ", ".join(f"{one.name}: {one.values[index]}" for one in series)
        shapes.append(
            format_html(
                '<g><title>{}</title>{}<rect class="webhooks-fill-none" x="{}" y="0" width="{}" '
                'height="{}"/></g>',
                f"{labels[index]} – {words}",
                format_html_join("", "{}", ((one,) for one in rects)),
                f"{LEFT + index * step:.1f}",
                f"{step:.1f}",
                height,
            )
        )
    return _svg(
        title, format_html_join("", "{}", ((one,) for one in shapes)), labels=labels, top=top
    )


def sparkline(good: Sequence[int], bad: Sequence[int], *, title: str) -> SafeString:
    """Return small bars without labels: what arrived, and what failed on top of it."""
    top = max((a + b for a, b in zip(good, bad, strict=True)), default=0) or 1
    step = 240 / max(1, len(good))
    shapes = []
    for index, (arrived, failed) in enumerate(zip(good, bad, strict=True)):
        low, high = 40 * arrived / top, 40 * failed / top
        for kind, y, size in (("succeeded", 40 - low, low), ("given_up", 40 - low - high, high)):
            if size:
                shapes.append(
                    (kind, f"{index * step:.1f}", f"{y:.1f}", f"{step * 0.8:.1f}", f"{size:.1f}")
                )
    rects = format_html_join(
        "", '<rect class="webhooks-fill-{}" x="{}" y="{}" width="{}" height="{}"/>', shapes
    )
    return format_html(
        '<svg class="webhooks-sparkline" viewBox="0 0 240 40" role="img" aria-label="{}">{}</svg>',
        title,
        rects,
    )


def nice(value: float) -> int:
    """Return a round number that is not less than the value, and at least 1."""
    size = 1
    while True:
        for step in (1, 2, 5):
            if step * size >= value:
                return step * size
        size *= 10


def _svg(title: str, shapes: SafeString, *, labels: Sequence[str], top: int) -> SafeString:
    height = HEIGHT - BOTTOM
    step = (WIDTH - LEFT) / max(1, len(labels))
    every = max(1, -(-len(labels) // 6))
    grid = format_html_join(
        "",
        '<line class="webhooks-grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="webhooks-label" x="{}" y="{}" text-anchor="end">{}</text>',
        (
            (LEFT, WIDTH, y, y, LEFT - 4, y + 10, number)
            for y, number in ((0, short(top)), (height / 2, short(top / 2)), (height, ""))
        ),
    )
    below = format_html_join(
        "",
        '<text class="webhooks-label" x="{}" y="{}">{}</text>',
        (
            (f"{LEFT + index * step:.1f}", HEIGHT - 5, label)
            for index, label in enumerate(labels)
            if index % every == 0
        ),
    )
    return format_html(
        '<svg class="webhooks-chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg>',
        WIDTH,
        HEIGHT,
        title,
        grid,
        shapes,
        below,
    )


def short(value: float) -> str:
    """Return a number as an axis has room for it: 2500 as 2.5k."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
