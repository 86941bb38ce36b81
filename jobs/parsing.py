"""Has a tree's files parsed by the measured interpreter; keeps what it got.

Before any test runs: a test may write into the tree, and what is kept under a blob's name must
be what that blob holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.confinement import MEASURED, Confinement
from jobs.outlining import keep_outlines
from jobs.runner import Surroundings
from jobs.statements import Parsed, StatementCache, Universe, read_parsed
from venv_builder.errors import InfrastructureError

TIMEOUT = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTree:
    """The measured files of a commit, by path; those of `if_run` count only if a line ran."""

    files: Mapping[str, Parsed]
    if_run: frozenset[str]


def parse_tree(
    cache: StatementCache,
    key: str,
    outlines: str,
    blobs: Mapping[str, str],
    folder: Path,
    around: Surroundings,
) -> ParsedTree:
    """Parse and outline what the cache lacks of one commit's files.

    `outlines` is the key under which outlines are kept (jobs.outlining), `folder` the parser's
    scratch. Starts no process where the same set of paths was listed before and every blob is
    known. Raises InfrastructureError if the parser does not do its work.
    """
    sources = {path: blob for path, blob in blobs.items() if path.endswith(".py")}
    known = cache.load(key, sources.values())
    outlined = cache.load_texts(outlines, sources.values())
    names = hashlib.sha256("\0".join(sorted(sources)).encode("utf-8", "surrogateescape"))
    universe = cache.load_universe(key, names.hexdigest())
    lacking = [path for path, blob in sources.items() if blob not in outlined]
    only = universe and [p for p in universe.paths if sources.get(p, "") not in known]
    only = only and [path for path in only if path in sources]
    if universe is None or only or lacking:
        skip = [path for path, blob in sources.items() if blob in known]
        ask = {"known": skip if universe is None or only else None, "only": only or None}
        result = _run_parser(folder, around, {**ask, "outline": lacking})
        keep_outlines(cache, outlines, {sources[p]: o for p, o in result["outlines"].items()})
        fresh = {sources[p]: raw for p, raw in result.get("files", {}).items() if p in sources}
        cache.store(key, {blob: raw for blob, raw in fresh.items() if "error" not in raw})
        known |= {blob: read_parsed(raw) for blob, raw in fresh.items()}
        if universe is None:
            universe = Universe(always=tuple(result["always"]), if_run=tuple(result["if_run"]))
            cache.store_universe(key, names.hexdigest(), universe)
    measured = (path for path in universe.paths if path in sources)
    return ParsedTree(
        files={path: known[sources[path]] for path in measured if sources[path] in known},
        if_run=frozenset(universe.if_run),
    )


def _run_parser(folder: Path, around: Surroundings, ask: Mapping[str, Any]) -> Any:
    folder.mkdir(parents=True)
    plan = {
        "root": str(around.root),
        "result": str(folder / "result.json"),
        "source": around.source,
        "branch": around.branch,
        **ask,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    confinement = Confinement(scratch=folder, memory=around.memory)
    done = confinement.run(
        [around.python, MEASURED / "parse.py", folder / "plan.json"],
        cwd=around.root,
        env=confinement.environment(around.path, around.variables),
        timeout=TIMEOUT,
    )
    try:
        return json.loads((folder / "result.json").read_text())
    except (OSError, ValueError) as error:
        words = (done.stderr.strip().splitlines() or [str(error)])[-1]
        raise InfrastructureError(
            f"The measured files could not be listed: {words}.",
            advice="Check the project's coverage settings (.coveragerc, pyproject.toml).",
        ) from error
