"""The command `doctor`."""

from __future__ import annotations

import typer
from rich.console import RenderableType

from polymodal.cli.options import Json
from polymodal.cli.output import print_note, print_result
from polymodal.core.terminal import labeled_lines


def doctor(as_json: Json = False) -> None:
    """Show versions, devices, extras and the cache, and try one small run. The exit status is 1 if something fails."""
    from polymodal.workflows.installation import check_installation

    found = check_installation()
    versions = [(name, value or "not installed") for name, value in found.versions.items()]
    extras = [(name, f"needs {', '.join(some)}" if some else "installed") for name, some in found.extras.items()]
    shown: list[RenderableType] = [
        labeled_lines(found.machine.items()),
        "",
        labeled_lines(versions),
    ]
    if extras:
        shown += ["", labeled_lines(extras)]
    print_result(vars(found), shown, as_json=as_json)
    if not as_json:
        for problem in found.problems:
            print_note(problem)
        missing = [name for name, some in found.extras.items() if some]
        if missing:
            print_note(f"an extra is installed by pip install 'polymodal[{missing[0]}]'")
        if not found.problems:
            print_note("everything that was tried works")
    raise typer.Exit(1 if found.problems else 0)
