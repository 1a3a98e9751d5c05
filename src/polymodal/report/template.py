"""Templates of HTML pages. A process compiles each once: that takes longer than to fill it."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from polymodal.core import formatting


@cache
def template(name: str, folder: str = "report") -> jinja2.Template:
    """The HTML template `name` in the package folder `folder`, with the filters and the style of all pages."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("polymodal", one) for one in dict.fromkeys([folder, "report"])]
        ),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": formatting.format_score,
        "truncated": formatting.truncate,
        "split_name": formatting.split_name,
        "join_words": formatting.join_words,
    }
    environment.globals |= {"interval": formatting.format_interval, "count": formatting.count_noun}
    return environment.get_template(name)


def _visible(value: Any) -> Any:
    """A text with its control characters as escape sequences, also those that change the direction of writing."""
    if not isinstance(value, str):
        return value
    visible = formatting.escape_controls(value, keep="\n\t", unicode_only=True)
    return Markup(visible) if isinstance(value, Markup) else visible  # it was markup before
