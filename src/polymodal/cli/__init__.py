"""The command line. Each command calls the public function with the same purpose."""

from __future__ import annotations

import sys

#: Exit status of a command stopped by Ctrl-C.
INTERRUPTED = 130


def main() -> None:
    """Run a command. An error that Polymodal raises on purpose is printed without a traceback; the exit status is 2."""
    from polymodal.cli.commands import app
    from polymodal.cli.output import print_error, print_note, show_warnings_as_notes
    from polymodal.core.errors import PolymodalError

    show_warnings_as_notes()
    try:
        app(prog_name="polymodal")
    except PolymodalError as error:
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(2)
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:
            print_note("Interrupted. Continue a training from its last checkpoint with --resume.")
        raise
