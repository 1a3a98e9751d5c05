"""Templates of HTML pages."""

from __future__ import annotations

import jinja2

from polymodal.core import formatting


def template(name: str, folder: str = "report") -> jinja2.Template:
    """The HTML template `name` in the package folder `folder`, with the filters and the style of all pages."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("polymodal", one) for one in dict.fromkeys([folder, "report"])]
        ),
        autoescape=True,
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
