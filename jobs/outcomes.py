"""Subunit streams in, outcomes out; the same streams go into the stestr repository."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import subunit
from testtools import StreamToDict

from jobs.results import Outcome, Status

STATUSES = {
    "success": Status.PASSED,
    "fail": Status.FAILED,
    "skip": Status.SKIPPED,
    "xfail": Status.EXPECTED_FAILURE,
    "uxsuccess": Status.UNEXPECTED_SUCCESS,
}
FAILED_IMPORT = re.compile(r"^unittest\.loader\.(?:_FailedTest|ModuleImportFailure)\.(.+)$")


def read_outcomes(streams: Sequence[Path]) -> tuple[Outcome, ...]:
    """Outcomes of all tests that began, in stream order; one without an end is CRASHED.

    A stream cut off in the middle of a packet is read up to there.
    """
    outcomes: list[Outcome] = []

    def collect(test: Any) -> None:
        # subunit's parser tells of garbled packets as a test; what they held is missed by name.
        if test["status"] != "exists" and test["id"] != "subunit.parser":
            outcomes.append(_as_outcome(test))

    _replay_all(streams, StreamToDict(collect))
    return tuple(outcomes)


def keep_streams(streams: Sequence[Path], repository: Path) -> None:
    """Add a run to the .stestr folder in `repository`: for `stestr last`, `failing`, `slowest`."""
    # The repository's old format passes odd bytes on to standard output, which is not its own.
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")):
        _replay_all(streams, _open_inserter(repository))


def _replay_all(streams: Sequence[Path], target: Any) -> None:
    target.startTestRun()
    try:
        for stream in streams:
            _replay(stream, target)
    finally:
        target.stopTestRun()


def _replay(stream: Path, target: Any) -> None:
    if not stream.exists():
        return
    data = io.BytesIO(stream.read_bytes())
    subunit.ByteStreamToStreamResult(data, non_subunit_name="stdout").run(target)


def _open_inserter(folder: Path) -> Any:
    """Where the run is added; a repository that cannot be read is begun anew."""
    try:
        return _open_repository(folder).get_inserter()
    except Exception:  # stestr raises whatever its damaged files make of it
        shutil.rmtree(folder)
        return _open_repository(folder).get_inserter()


def _open_repository(folder: Path) -> Any:
    from stestr.repository.file import RepositoryFactory

    factory = RepositoryFactory()
    # The durations by which `stestr run` would schedule: nobody runs from this repository, and to
    # read those of 28,000 tests takes half a second.
    for kept in (folder / ".stestr").glob("times.dbm*"):
        kept.unlink(missing_ok=True)
    if not (folder / ".stestr" / "format").exists():
        folder.mkdir(parents=True, exist_ok=True)
        return factory.initialise(str(folder))
    return factory.open(str(folder))


def _as_outcome(test: Any) -> Outcome:
    start, end = test["timestamps"]
    seconds = (end - start).total_seconds() if start and end else 0.0
    details = [
        content.as_text()
        for name, content in sorted(test["details"].items())
        if content.content_type.type == "text" and name != "stdout"
    ]
    return Outcome(
        test=test["id"],
        status=STATUSES.get(test["status"], Status.CRASHED),
        seconds=seconds,
        details="\n".join(details),
    )


def failed_import(test: str) -> str | None:
    """The module that a test id stands for when the module did not import, else None."""
    match = FAILED_IMPORT.match(test)
    return match[1] if match else None
