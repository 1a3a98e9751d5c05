"""The templates of HTML pages."""

from __future__ import annotations

import jinja2

from polymodal.report import wording


def template(name: str) -> jinja2.Template:
    """The HTML template `name` of this folder, with the words that pages share."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polymodal", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": wording.score,
        "cut": wording.cut,
        "part": wording.part_name,
        "listed": wording.listed,
    }
    environment.globals |= {"interval": wording.interval, "count": wording.count}
    return environment.get_template(name)
