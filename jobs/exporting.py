"""Writes a snapshot in the formats that other tools read, by coverage.py's own writers.

They run on the snapshot and the commit's files, under the measured interpreter where there is one.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.confinement import MEASURED, Confinement
from jobs.repository import Mirror
from venv_builder import EnvironmentCache
from venv_builder.errors import InfrastructureError

TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What is written: a commit's snapshot; `environment` is the key of what measured it."""

    mirror: Mirror
    commit: str
    snapshot: Path
    environment: str
    environments: EnvironmentCache


def write_report(what: Exported, style: str, output: Path, parent: Path) -> None:
    """Write xml, lcov or html to `output`, whole or not at all; works in a folder of `parent`.

    Raises InfrastructureError for what coverage.py cannot write.
    """
    with TemporaryDirectory(prefix="export-", dir=parent) as name:
        tree, scratch = Path(name, "tree"), Path(name, "scratch")
        what.mirror.lay_out(what.commit, tree, Path(name, "index"))
        scratch.mkdir()
        data = scratch / "data.coverage"
        shutil.copyfile(what.snapshot, data)
        made = scratch / "output"
        plan = {"data": str(data), "format": style, "output": str(made)}
        (scratch / "plan.json").write_text(json.dumps(plan))
        known = (e for e in what.environments.environments() if e.key == what.environment)
        python = next((e.python for e in known), Path(sys.executable))
        confinement = Confinement(scratch=scratch, memory=None)
        done = confinement.run(
            [python, MEASURED / "export.py", scratch / "plan.json"],
            cwd=tree,
            env=confinement.environment((python.parent,), {}),
            timeout=TIMEOUT,
        )
        if done.status:
            raise InfrastructureError(f"coverage.py could not write {style}: {done.last_words}.")
        _put_in_place(made, output)


def _put_in_place(made: Path, output: Path) -> None:
    """Replace `output` by what was made; an HTML folder as a whole."""
    if made.is_dir():
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(made, output)
    else:
        new = output.with_name(output.name + ".new")
        shutil.copyfile(made, new)
        new.replace(output)
