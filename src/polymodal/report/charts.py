"""Charts as SVG text; the style sheet of the page gives the colors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 30, 44
#: Largest number of points in a scatter chart; of more rows, this many are taken at equal steps.
MAX_POINTS = 1500

Range = tuple[float, float]


@dataclass(frozen=True)
class ChartLine:
    """A line through the points `(x, y)`; `style` is the CSS class `one` (solid) or `two` (dashed)."""

    name: str
    points: list[tuple[float, float]]
    style: str


def line_chart(
    lines: list[ChartLine],
    *,
    title: str,
    x_label: str,
    y_label: str,
    level: tuple[str, float] | None = None,
    marked: list[float] | None = None,
    integers_only: bool = True,
) -> Markup:
    """Lines over numbers.

    level: name and value of a horizontal reference line
    marked: x values with a vertical mark
    integers_only: whether x values are integers, such as epochs
    """
    lines = [ChartLine(line.name, [p for p in line.points if math.isfinite(p[1])], line.style) for line in lines]
    xs = [x for line in lines for x, _ in line.points] or [0.0]
    ys = [y for line in lines for _, y in line.points] + ([level[1]] if level else []) or [0.0]
    frame = PlotArea((min(xs), max(xs)), padded_range(min(ys), max(ys)), x_label, y_label, integers_only=integers_only)
    parts = [frame.axes()]
    for x in marked or []:
        parts.append(
            Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(frame.x(x), TOP, HEIGHT - BOTTOM)
        )
    if level:
        parts.append(
            Markup('<line class="level" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                LEFT, WIDTH - RIGHT, y=frame.y(level[1])
            )
        )
    for line in lines:
        path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in line.points)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(line.style, path))
        if len(line.points) == 1:
            x, y = line.points[0]
            parts.append(Markup('<circle class="dot" cx="{}" cy="{}" r="3"/>').format(frame.x(x), frame.y(y)))
    legend = [(line.name, f"line {line.style}") for line in lines] + ([(level[0], "level")] if level else [])
    return _svg([*parts, _legend(legend)], title)


def scatter_chart(truth: np.ndarray, predicted: np.ndarray, *, title: str, unit: str) -> Markup:
    """Predicted over true numbers, with the diagonal where both are equal."""
    if len(truth) > MAX_POINTS:
        chosen = np.linspace(0, len(truth) - 1, MAX_POINTS).astype(np.int64)
        truth, predicted = truth[chosen], predicted[chosen]
    ends = padded_range(
        float(min(truth.min(initial=math.inf), predicted.min(initial=math.inf))),
        float(max(truth.max(initial=-math.inf), predicted.max(initial=-math.inf))),
    )
    frame = PlotArea(ends, ends, f"true {unit}", f"predicted {unit}", height=400)
    # One path with a dot of length 0 at each point takes a third of the bytes of a circle for each.
    dots = "".join(f"M{frame.x(x)} {frame.y(y)}h0" for x, y in zip(truth, predicted, strict=True))
    parts = [frame.axes(), frame.diagonal(), Markup('<path class="dots" d="{}"/>').format(dots)]
    return _svg([*parts, _legend([("equal", "level")])], title, 400)


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence.

    probability: their mean confidence
    observed: the fraction that is correct; `low` and `high`: its interval
    count: their number
    """

    probability: float
    observed: float
    low: float
    high: float
    count: int


def reliability_chart(bins: list[ReliabilityBin], *, title: str, x_label: str, y_label: str) -> Markup:
    """A reliability diagram: the fraction of correct predictions over their confidence."""
    frame = PlotArea((0.0, 1.0), (0.0, 1.0), x_label, y_label, height=400)
    parts = [frame.axes(), frame.diagonal()]
    largest = max((one.count for one in bins), default=1)
    for one in bins:
        x = frame.x(one.probability)
        parts.append(
            Markup('<line class="whisker" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                x, frame.y(one.low), frame.y(one.high)
            )
        )
        radius = round(3 + 5 * math.sqrt(one.count / largest), 1)
        parts.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                x,
                frame.y(one.observed),
                radius,
                f"{one.observed:.0%} of {one.count:,} correct, confidence {one.probability:.0%}",
            )
        )
    return _svg([*parts, _legend([("perfect calibration", "level")])], title, 400)


def interval_bar(value: float, low: float | None, high: float | None, baseline: float | None, ends: Range) -> Markup:
    """A score as a dot, its interval as a bar and the baseline as a stroke, between `ends`."""
    width = 132

    def x_of(number: float) -> float:
        return round(6 + (width - 12) * min(1.0, max(0.0, _fraction(number, ends))), 1)

    parts = [Markup('<line class="rail" x1="6" x2="{}" y1="9" y2="9"/>').format(width - 6)]
    if low is not None and high is not None:
        parts.append(Markup('<line class="span" x1="{}" x2="{}" y1="9" y2="9"/>').format(x_of(low), x_of(high)))
    if baseline is not None:
        parts.append(Markup('<line class="baseline" x1="{0}" x2="{0}" y1="2" y2="16"/>').format(x_of(baseline)))
    parts.append(Markup('<circle class="dot" cx="{}" cy="9" r="4"/>').format(x_of(value)))
    return Markup('<svg class="bar" viewBox="0 0 {} 18" width="{}" height="18" aria-hidden="true">{}</svg>').format(
        width, width, Markup("").join(parts)
    )


class PlotArea:
    """The plot area: positions of values, and axes with ticks and labels."""

    def __init__(
        self, x: Range, y: Range, x_label: str, y_label: str, *, height: int = HEIGHT, integers_only: bool = False
    ):
        self.x_range, self.y_range, self.height, self.integers_only = x, y, height, integers_only
        self.x_label, self.y_label = x_label, y_label

    def x(self, value: float) -> float:
        return round(LEFT + _fraction(value, self.x_range) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(self.height - BOTTOM - _fraction(value, self.y_range) * (self.height - TOP - BOTTOM), 1)

    def axes(self) -> Markup:
        bottom, middle = self.height - BOTTOM, (TOP + self.height - BOTTOM) / 2
        parts = []
        for tick, text in _labeled(ticks(self.y_range)):
            y = self.y(tick)
            grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
            parts.append(grid.format(LEFT, WIDTH - RIGHT, y=y))
            parts.append(Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(LEFT - 6, y + 4, text))
        for tick, text in _labeled(ticks(self.x_range, integers_only=self.integers_only)):
            label = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
            parts.append(label.format(self.x(tick), bottom + 16, text))
        parts.append(
            Markup('<line class="axis" x1="{}" x2="{}" y1="{b}" y2="{b}"/>').format(LEFT, WIDTH - RIGHT, b=bottom)
        )
        parts.append(
            Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                (LEFT + WIDTH - RIGHT) / 2, self.height - 8, _short(self.x_label, 50)
            )
        )
        parts.append(
            Markup(
                '<text class="label" transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>'
            ).format(middle, _short(self.y_label, 34))
        )
        return Markup("").join(parts)

    def diagonal(self) -> Markup:
        low, high = self.x_range
        return Markup('<line class="level" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            self.x(low), self.y(low), self.x(high), self.y(high)
        )


def ticks(ends: Range, *, integers_only: bool = False) -> list[float]:
    """Up to seven round numbers between the ends, in steps of 1, 2 or 5 times a power of ten."""
    low, high = ends
    if high <= low:
        return [low]
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    step = max(step, 1.0) if integers_only else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _labeled(values: list[float]) -> list[tuple[float, str]]:
    """Ticks with their texts, with enough digits to be distinct."""
    short = [f"{tick:g}" for tick in values]
    texts = short if len(set(short)) == len(values) else [f"{tick:.12g}" for tick in values]
    return list(zip(values, texts, strict=True))


def _fraction(value: float, ends: Range) -> float:
    return (value - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 0.5


def padded_range(low: float, high: float) -> Range:
    """The range from `low` to `high` with some room, so that no point lies on the edge."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    room = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _legend(names: list[tuple[str, str]]) -> Markup:
    parts, x = [], float(LEFT)
    for name, style in names:
        text = _short(name, 28)
        parts.append(Markup('<line class="{}" x1="{}" x2="{}" y1="13" y2="13"/>').format(style, x, x + 20))
        parts.append(Markup('<text x="{}" y="17">{}</text>').format(x + 26, text))
        x += 40 + 6.4 * len(text)
    return Markup("").join(parts)


def _svg(parts: list[Markup], title: str, height: int = HEIGHT) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{title}"><title>{title}</title>{}</svg>'
    ).format(WIDTH, height, Markup("").join(parts), title=title)
