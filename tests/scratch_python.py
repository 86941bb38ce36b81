"""Runs this interpreter on scripts of a test, in a scrubbed environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from venv_builder.processes import Completed, check_command


def run_python(words: Sequence[str | Path], *, cwd: Path) -> Completed:
    """Run `python WORDS` in `cwd` to its end; a failure fails the test."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    return check_command([sys.executable, *words], cwd=cwd, env=environment)
