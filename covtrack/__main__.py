"""`python -m covtrack`: the same as the console script."""

from covtrack.entry import main

main()
