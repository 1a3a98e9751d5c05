"""A chart of candidates that are judged by a score and a cost."""

from __future__ import annotations

from markupsafe import Markup

from polymodal.report.charts import HEIGHT, TOP, WIDTH, Frame, wider


def front_chart(
    points: list[tuple[str, float, float, bool]], *, title: str, x_label: str, y_label: str, joined: bool
) -> Markup:
    """Scores over costs. Each point is `(name, cost, score, whether no other is as good in everything)`: a dot where it
    is so, else a ring. joined: connect the dots (with further costs, they are no line)."""
    xs, ys = [x for _, x, _, _ in points] or [0.0], [y for _, _, y, _ in points] or [0.0]
    frame = Frame(wider(min(xs), max(xs)), wider(min(ys), max(ys)), x_label, y_label)
    parts = [frame.axes()]
    if joined:
        path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in sorted((x, y) for _, x, y, best in points if best))
        parts.append(Markup('<polyline class="line one" points="{}"/>').format(path))
    for name, x, y, best in points:
        style = "dot" if best else "other"
        label = f"{name}: {y:.3g} at {x:.3g}"
        circle = Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
        parts.append(circle.format(style, frame.x(x), frame.y(y), 4.5 if best else 3.5, label))
    parts.append(Markup('<text x="{}" y="{}">{}</text>').format(54, TOP - 13, "dot: no other is as good in everything"))
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{title}"><title>{title}</title>{}</svg>'
    ).format(WIDTH, HEIGHT, Markup("").join(parts), title=title)
