"""The command line. Each command calls the public function of the same purpose."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command. Errors that Polymodal raises on purpose are printed without a traceback; exit status 2."""
    from polymodal.cli.commands import app
    from polymodal.cli.output import fail, plain_warnings
    from polymodal.errors import PolymodalError

    plain_warnings()
    try:
        app()
    except PolymodalError as error:
        fail(error, as_json="--json" in sys.argv)
        sys.exit(2)
