"""`python -m polymodal` is the command line."""

from polymodal.cli import main

main()
