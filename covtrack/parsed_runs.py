"""How the files of a stored run were parsed: asks the project's cache, parses nothing anew.

The database has the statements that did not run. What other statements a file has is in the
cache, under the key that the run's snapshot names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from covtrack.packing import unpacked
from covtrack.store.values import StoredRun
from jobs.repository import Mirror
from jobs.snapshot import read_settings_key
from jobs.statements import Parsed, StatementCache
from venv_builder.errors import DataError

if TYPE_CHECKING:  # which itself asks here, when it learns
    from covtrack.tracking import Tracker


def read_parsed_files(
    tracker: Tracker, run: StoredRun, mirror: Mirror, paths: Iterable[str]
) -> Mapping[str, Parsed] | None:
    """Those of the run's files that are still in the cache, by path.

    None where the snapshot is gone or damaged, and so cannot tell under which settings they
    were parsed.
    """
    key = _settings_key(unpacked(tracker.settings.state / run.snapshot))
    if key is None:
        return None
    asked = tuple(paths)
    blobs = mirror.blobs(run.commit) if asked else {}
    wanted = {path: blobs[path] for path in asked if path in blobs}
    cache = StatementCache(tracker.places(run.project).kept / "statements.sqlite")
    known = cache.load(key, wanted.values())
    return {path: known[blob] for path, blob in wanted.items() if blob in known}


def _settings_key(snapshot: Path) -> str | None:
    try:
        return read_settings_key(snapshot) if snapshot.is_file() else None
    except DataError:
        return None
