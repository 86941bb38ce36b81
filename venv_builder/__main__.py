"""`python -m venv_builder`: the same as the script venv-builder."""

from venv_builder.cli import main

if __name__ == "__main__":
    main()
