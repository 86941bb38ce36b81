"""Takes a step's bundle into the database: checked first, then whole or not at all.

What the tracker knows itself (message, dates, tree, what was compared with) is not taken from the
bundle. Storing the same bundle again changes nothing and gives the same run ids, so whoever was
killed may simply try again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection

from covtrack.ledger import learn_from, verified
from covtrack.settings import Settings, TrackedProject
from covtrack.store import building, ledgering, queueing, reading, writing
from covtrack.store.queued import OF_CHANGE, Build, BuildState
from covtrack.store.values import StoredRun
from covtrack.tracking import Tracker
from covtrack.working import prospective_gain, put_samples
from jobs.bundle import Bundle, read_bundle
from jobs.holding import KNOWN, WHYS, Held
from jobs.order import Against, StepOrder
from jobs.repository import Commit, Mirror
from jobs.results import Before, JobResult
from jobs.snapshot import file_digest
from jobs.snapshot_checking import check_result, check_snapshot
from venv_builder.errors import DataError, RefusedError, UsageError

DEAD = (BuildState.LOST, BuildState.CANCELLED)


class EndedError(UsageError):
    """The build is over: another one does its job, or nobody wants it."""


def incoming(settings: Settings) -> Path:
    """Where bundles lie while they are checked: on the disk of the snapshots."""
    return settings.state / "incoming"


def store_bundle(tracker: Tracker, build: Build, path: Path) -> tuple[int, ...]:
    """Check the bundle at `path`, store its runs, and return their ids, oldest commit first.

    Notes the last run on the job's row, and the prospective coverage of a change; queues full
    runs of those that the ledger draws. Such a full run becomes an entry of the ledger, no run.

    Raises RefusedError for a bundle that is not what the build was to bring, EndedError for a
    build that is lost or cancelled; then nothing was stored.
    """
    order = StepOrder.model_validate(build.order)
    project = tracker.settings.project(order.settings.name)
    ids = build.run_ids
    if ids is None:
        folder = incoming(tracker.settings)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="bundle-", dir=folder) as name:
            mirror = tracker.mirror(project.name)
            bundle = read_bundle(path, Path(name), order)
            results = _check_results(bundle, order, mirror)
            if order.against is not None:
                return _store_verification(tracker, build, order.against, results[0], bundle.held)
            ids = _store(tracker, project, build, order, mirror, results)
    note_gain(tracker, project, build.job_id)
    return ids


def _check_results(bundle: Bundle, order: StepOrder, mirror: Mirror) -> tuple[JobResult, ...]:
    """The bundle's results, checked, with the tracker's own knowledge in place of theirs."""
    results: list[JobResult] = []
    for said in bundle.results:
        commit = mirror.commit(said.commit)
        check_snapshot(said.snapshot)
        check_result(said, mirror.blobs(commit.sha))
        _check_patch(said, commit)
        results.append(_completed(said, commit, order, results))
    return tuple(results)


def _check_patch(result: JobResult, commit: Commit) -> None:
    patch = result.patch
    if patch is None:
        return
    if patch.covered > patch.statements or patch.parent not in commit.parents[:1]:
        raise RefusedError(
            f"The bundle is refused: its patch coverage of {commit.sha[:10]} is of another patch.",
            advice="Nothing of it was stored.",
        )


def _completed(
    said: JobResult, commit: Commit, order: StepOrder, earlier: Sequence[JobResult]
) -> JobResult:
    if not earlier:
        ground = order.base
        base = None if ground is None else ground.compared or ground.commit
        before = None if ground is None else ground.before
    elif earlier[-1].complete:
        base, measured = earlier[-1].commit, earlier[-1].measurement
        before = Before(total=measured.total, vendored=measured.vendored)
    else:
        base, before = None, None
    return replace(
        said,
        subject=commit.subject,
        committed_at=commit.committed_at,
        base=base,
        before=before,
    )


def _store(
    tracker: Tracker,
    project: TrackedProject,
    build: Build,
    order: StepOrder,
    mirror: Mirror,
    results: Sequence[JobResult],
) -> tuple[int, ...]:
    placed = [_place(tracker, build.run_id, result) for result in results]
    trees = [mirror.commit(result.commit).tree for result in results]
    now = datetime.now(UTC)

    def act(connection: Connection) -> tuple[int, ...]:
        known = _wanted(connection, build.run_id)
        if known.run_ids is not None:
            return known.run_ids
        writing.put_project(connection, project.name, order.branch, project.share)
        ids = tuple(
            writing.put_run(
                connection,
                result,
                snapshot=str(place.relative_to(tracker.settings.state)),
                sha256=digest,
                tree=tree,
                measured_at=now,
            )
            for result, (place, digest), tree in zip(results, placed, trees, strict=True)
        )
        building.put_build_values(connection, build.run_id, {"run_ids": list(ids)})
        values = {"run_id": ids[-1], "progress": "", "error": ""}
        queueing.put_values(connection, build.job_id, values)
        job = queueing.read_job(connection, build.job_id)
        if job is not None:
            put_samples(connection, project, job, results, now)
        return ids

    return tracker.database.write(act)


def _wanted(connection: Connection, run_id: str) -> Build:
    """The build, its row locked until the transaction ends; EndedError where it is over."""
    known = building.read_build(connection, run_id, lock=True)
    if known is None or (known.run_ids is None and known.state in DEAD):
        raise EndedError(f"Run {run_id} is over: its bundle is not wanted any more.")
    return known


def _store_verification(
    tracker: Tracker, build: Build, against: Against, full: JobResult, held: Held | None
) -> tuple[int, ...]:
    """Put a full run into the ledger; the build has no runs of its own."""
    if full.complete:
        _check_held(against, full, held)
    found = verified(full, against, (held if full.complete else None) or Held())

    def act(connection: Connection) -> StoredRun | None:
        if _wanted(connection, build.run_id).run_ids is not None:
            return None
        ledgering.put_entry(connection, against.run, found)
        building.put_build_values(connection, build.run_id, {"run_ids": []})
        queueing.put_values(connection, build.job_id, {"progress": "", "error": ""})
        return reading.read_runs(connection, reading.one_id(against.run))[0]

    run = tracker.database.write(act)
    if run is not None:
        learn_from(tracker, run, found.held)
    return ()


def _check_held(against: Against, full: JobResult, held: Held | None) -> None:
    """Raise RefusedError unless that is what the full run's own lines tell."""
    expected = against.hold(full, lambda workers: full)
    plain = {"explained": ()}
    same = held is not None and held.model_copy(update=plain) == expected.model_copy(update=plain)
    if held is None or not same or not _explains(held, expected):
        raise RefusedError(
            f"The bundle is refused: what differs in {full.commit[:10]} is not what its lines "
            "tell.",
            advice="Nothing of it was stored.",
        )


def _explains(held: Held, expected: Held) -> bool:
    """Whether all that differs, and nothing else, has one of the reasons that there are."""
    said = [one.model_copy(update={"why": ""}) for one in held.explained]
    mine = [one.model_copy(update={"why": ""}) for one in expected.explained]
    return said == mine and all(
        (one.why == KNOWN) == (own.why == KNOWN) and one.why in WHYS
        for one, own in zip(held.explained, expected.explained, strict=True)
    )


def _place(tracker: Tracker, run_id: str, result: JobResult) -> tuple[Path, str]:
    """Move a snapshot to where it stays, and say its digest (sha256).

    The same bundle's has the same place. Another bundle of the same run, which a build that was
    started again by hand brings, has places of its own: it may not touch what is stored.
    """
    folder = tracker.folder(result.project) / "snapshots" / f"{result.kind.value}s"
    try:
        digest = file_digest(result.snapshot)
        place = folder / f"{result.commit}-{run_id}-{digest[:16]}.coverage"
        folder.mkdir(parents=True, exist_ok=True)
        with result.snapshot.open("rb") as file:
            os.fsync(file.fileno())
        result.snapshot.chmod(0o444)
        result.snapshot.replace(place)
    except OSError as error:
        raise DataError(
            f"A snapshot of {result.commit[:10]} cannot be kept: {error.strerror}.",
            advice=f"Make room below {folder}; nothing stored was changed.",
        ) from error
    return place, digest


def note_gain(tracker: Tracker, project: TrackedProject, job_id: int) -> None:
    """Work out the prospective coverage of a change whose run is stored, once."""
    database = tracker.database
    job = database.read(lambda connection: queueing.read_job(connection, job_id))
    if job is None or job.kind not in OF_CHANGE or job.gain is not None:
        return
    run = database.find_run(job.project, job.commit)
    if run is None or not run.complete:
        return
    on_branch = project.model_copy(update={"branch": job.branch})
    gain = prospective_gain(tracker, database, on_branch, job)
    if gain is not None:
        database.write(lambda connection: queueing.put_values(connection, job_id, {"gain": gain}))
