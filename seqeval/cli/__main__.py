"""`python -m seqeval.cli`: the command seqeval."""

from . import main

main()
