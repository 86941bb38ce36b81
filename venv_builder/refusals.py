"""Remembers for a while that a shared environment could not be built, and of what.

Otherwise each job would compile in vain again; after the time is up it is tried anew, since the
missing system library may be there by then.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from venv_builder.construction import UnbuildableError
from venv_builder.files import write_whole


def write_refusal(path: Path, error: UnbuildableError) -> None:
    """Keep the error in the file `path`, with the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "at": time.time(),
        "sentence": error.sentence,
        "advice": error.advice,
        "distribution": error.distribution,
    }
    write_whole(path, json.dumps(told))


def read_refusal(path: Path, *, seconds: float) -> UnbuildableError | None:
    """The error kept there, unless it is older than `seconds`."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not 0 <= time.time() - told["at"] < seconds:
            return None
        return UnbuildableError(
            told["sentence"], advice=told["advice"], distribution=told["distribution"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
