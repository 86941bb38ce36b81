"""Has a tree's files parsed by the measured interpreter, beside the tests; keeps what it got."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from jobs.confinement import MEASURED, Confinement
from jobs.runner import Surroundings
from jobs.statements import Parsed, StatementCache, read_parsed
from venv_builder.errors import InfrastructureError
from venv_builder.processes import ProcessGroup, start_group

TIMEOUT = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTree:
    """The measured files of a commit, by path, and whether branches are measured.

    Files of `if_run` count only if some line of them ran.
    """

    files: Mapping[str, Parsed]
    if_run: frozenset[str]
    branch: bool
    others: Mapping[str, Parsed]


class TreeParser:
    """Parses what the cache lacks of one commit's files: `start`, do other work, `finish`."""

    def __init__(
        self, cache: StatementCache, key: str, blobs: Mapping[str, str], folder: Path
    ) -> None:
        self.cache = cache
        self.key = key
        self.blobs = {path: blob for path, blob in blobs.items() if path.endswith(".py")}
        self.folder = folder
        self._known = cache.load(key, self.blobs.values())
        self._group: ProcessGroup | None = None

    def start(self, around: Surroundings, also: Iterable[str] = ()) -> None:
        """Start the parser; it lists the measured files and parses those not known yet.

        `also` are paths to parse even if the project's settings leave them out.
        """
        self.folder.mkdir(parents=True)
        plan = {
            "root": str(around.root),
            "result": str(self.folder / "result.json"),
            "known": [path for path, blob in self.blobs.items() if blob in self._known],
            "also": [path for path in also if path in self.blobs],
            "source": around.source,
            "branch": around.branch,
        }
        (self.folder / "plan.json").write_text(json.dumps(plan))
        confinement = Confinement(scratch=self.folder, memory=around.memory)
        self._group = start_group(
            confinement.argv([around.python, MEASURED / "parse.py", self.folder / "plan.json"]),
            cwd=around.root,
            env=confinement.environment(around.path, around.variables),
            stdout=self.folder / "stdout",
            stderr=self.folder / "stderr",
        )

    def finish(self) -> ParsedTree:
        """Wait for the parser; raises InfrastructureError if it does not do its work."""
        result = self._wait()
        fresh = {self.blobs[path]: raw for path, raw in result["files"].items()}
        self.cache.store(self.key, fresh)
        parsed = {**self._known, **{blob: read_parsed(raw) for blob, raw in fresh.items()}}
        universe = {*result["always"], *result["if_run"]}
        by_path = {path: parsed[blob] for path, blob in self.blobs.items() if blob in parsed}
        return ParsedTree(
            files={path: value for path, value in by_path.items() if path in universe},
            if_run=frozenset(result["if_run"]),
            branch=result["branch"],
            others={path: value for path, value in by_path.items() if path not in universe},
        )

    def _wait(self) -> Any:
        assert self._group is not None, "start() comes first"
        deadline = monotonic() + TIMEOUT
        while self._group.poll() is None and monotonic() < deadline:
            sleep(0.01)
        self._group.kill()
        try:
            return json.loads((self.folder / "result.json").read_text())
        except (OSError, ValueError) as error:
            words = (self.folder / "stderr").read_text(errors="replace").strip().splitlines()
            raise InfrastructureError(
                f"The measured files could not be listed: {words[-1] if words else error}.",
                advice="Check the project's coverage settings (.coveragerc, pyproject.toml).",
            ) from error

    def stop(self) -> None:
        """Kill the parser if it still runs."""
        if self._group is not None:
            self._group.kill()
