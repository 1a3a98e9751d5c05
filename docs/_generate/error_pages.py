"""The page of the errors and the warning that users may see."""

from __future__ import annotations

import inspect

from polymodal.core import errors
from polymodal.data.table.cell_errors import BadCellsWarning

from .markdown import docstring

HEAD = """# Errors

Every error that Polymodal raises on purpose derives from `polymodal.core.errors.PolymodalError`. The command line
prints the error without a traceback (with `--json`, as a JSON object) and exits with status 2.
"""


def errors_page() -> str:
    lines = [HEAD]
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.PolymodalError):
            lines += [f"## {name}", "", docstring(error), ""]
    module = BadCellsWarning.__module__
    lines += ["## BadCellsWarning", "", f"A warning, in `{module}`. {docstring(BadCellsWarning)}", ""]
    return "\n".join(lines)
