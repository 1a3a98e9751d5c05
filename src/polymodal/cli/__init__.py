"""The command line. Each command calls the public function of the same purpose."""

from __future__ import annotations

import sys

#: The exit status of a command that Ctrl-C stopped.
INTERRUPTED = 130


def main() -> None:
    """Run a command. Errors that Polymodal raises on purpose are printed without a traceback; exit status 2."""
    from polymodal.cli.commands import app
    from polymodal.cli.output import print_error, print_note, show_warnings_as_notes
    from polymodal.core.errors import PolymodalError

    show_warnings_as_notes()
    try:
        app()
    except PolymodalError as error:
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(2)
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:
            print_note("interrupted; a training that had begun goes on with --resume, from its last checkpoint")
        raise
