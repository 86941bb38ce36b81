"""`python -m covtrack`: the same as the console script."""

from covtrack.cli import main

main()
