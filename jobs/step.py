"""One step on an agent: an order in, a bundle and what other tools read out.

Needs no database and no secret: what it fetches is public to it, and what it writes is checked by
whoever takes it. Each file appears whole or not at all, the bundle last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.bundle import NAME, write_bundle
from jobs.exporting import Exported, write_report
from jobs.holding import Held
from jobs.job import run_job
from jobs.junit import junit_xml
from jobs.order import Against, OrderedCommit, StepOrder
from jobs.repository import Mirror
from jobs.request import Base, Request
from jobs.results import Before, JobResult, Kind
from jobs.snapshot import file_digest
from jobs.workplace import Workplace
from venv_builder import EnvironmentCache
from venv_builder.errors import DataError, InfrastructureError
from venv_builder.files import write_whole
from venv_builder.progress import Listener, Stages

COBERTURA, JUNIT, REPORT = "coverage.xml", "junit.xml", "covtrack.json"
WRITTEN = (COBERTURA, JUNIT, REPORT, NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """This machine: `state` outlives steps (mirrors, environments), `output` gets the files."""

    state: Path
    output: Path

    @property
    def environments(self) -> EnvironmentCache:
        """The environments of all projects."""
        return EnvironmentCache(self.state / "environments")

    def workplace(self, project: str) -> Workplace:
        """Where the project's steps are done."""
        folder = self.state / "projects" / project.replace("/", "%2F")
        return Workplace(folder=folder, project=project)


def clear_output(agent: Agent) -> None:
    """Remove what an earlier step left in the output folder: nobody shall take it for this one's.

    Raises InfrastructureError if the folder cannot be used.
    """
    try:
        agent.output.mkdir(parents=True, exist_ok=True)
        for name in WRITTEN:
            for path in (agent.output / name, *agent.output.glob(f".{name}.*")):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise InfrastructureError(
            f"The output folder {agent.output} cannot be used: {error.strerror}.",
            advice="Name another: --output FOLDER",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a step found: a result for each commit, and how a stored one differs from the last."""

    results: tuple[JobResult, ...]
    held: Held | None = None


@contextmanager
def measured(
    agent: Agent, order: StepOrder, baseline: Path | None, listener: Listener
) -> Iterator[Measured]:
    """Fetch and measure what is ordered; the results' snapshots are there while the block runs.

    `baseline` is the snapshot of the order's base. Stops after a baseline whose figure is
    incomplete; a change after one runs in full. Raises a CovtrackError where nothing could be
    measured.
    """
    workplace = agent.workplace(order.settings.name)
    with workplace.locked(listener):
        mirror = workplace.mirror()
        fetch(mirror, order, listener)
        (workplace.folder / "scratch").mkdir(exist_ok=True)
        with TemporaryDirectory(prefix="step-", dir=workplace.folder / "scratch") as name:
            folder = Path(name)
            if order.against is not None:
                yield _verify(agent, mirror, order, order.against, folder, listener)
            else:
                results = _measure(agent, mirror, order, baseline, folder, listener)
                yield Measured(results=results)


def fetch(mirror: Mirror, order: StepOrder, listener: Listener) -> None:
    """Bring what is ordered into the mirror, unless it is all there.

    Raises InfrastructureError where a commit cannot be had: trying again may help.
    """
    wanted = [commit.sha for commit in order.commits]
    if all(map(mirror.has, wanted)):
        return
    with Stages(listener).stage("fetch", order.branch):
        mirror.fetch(order.settings.git, order.refs)
    for sha in wanted:
        if not mirror.has(sha):
            raise InfrastructureError(
                f"The repository of {order.settings.name} has no commit {sha[:10]}.",
                advice="Check that the agent fetches from where the change was uploaded to.",
            )


def _measure(
    agent: Agent,
    mirror: Mirror,
    order: StepOrder,
    baseline: Path | None,
    folder: Path,
    listener: Listener,
) -> tuple[JobResult, ...]:
    base = _first_base(mirror, order, baseline)
    results: list[JobResult] = []
    for number, commit in enumerate(order.commits):
        request = _request(agent, mirror, order, commit, base)
        result = run_job(request, folder / f"{number}.coverage", listener).result
        results.append(result)
        base = _next_base(result)
        if base is None and commit.kind is Kind.BASELINE and not _change_follows(order, number):
            break
    return tuple(results)


def _verify(
    agent: Agent,
    mirror: Mirror,
    order: StepOrder,
    against: Against,
    folder: Path,
    listener: Listener,
) -> Measured:
    """A full run of the one commit, and where the stored result differs two more."""

    def full(workers: int | None, name: str = "again") -> JobResult:
        request = _request(agent, mirror, order, order.commits[0], None)
        request = replace(request, settings=order.settings.in_full(workers))
        return run_job(request, folder / f"{name}.coverage", listener).result

    first = full(None, "0")
    held = against.hold(first, full) if first.complete else None
    return Measured(results=(first,), held=held)


def _change_follows(order: StepOrder, number: int) -> bool:
    rest = order.commits[number + 1 :]
    return bool(rest) and rest[0].kind is Kind.CHANGE


def _first_base(mirror: Mirror, order: StepOrder, baseline: Path | None) -> Base | None:
    if order.base is None:
        return None
    if baseline is None:
        raise DataError("The order rests on a snapshot that was not handed over.")
    if file_digest(baseline) != order.base.sha256:
        raise DataError(
            f"The snapshot of {order.base.commit[:10]} is not the one that the order names.",
            advice="Fetch it again.",
        )
    if not mirror.has(order.base.commit):
        raise InfrastructureError(
            f"The repository of {order.settings.name} has no commit {order.base.commit[:10]}, "
            "on which the order rests."
        )
    return Base(
        commit=order.base.commit,
        snapshot=baseline,
        before=order.base.before,
        compared=order.base.compared,
    )


def _next_base(result: JobResult) -> Base | None:
    if not result.complete:
        return None
    measurement = result.measurement
    before = Before(total=measurement.total, vendored=measurement.vendored)
    return Base(commit=result.commit, snapshot=result.snapshot, before=before)


def _request(
    agent: Agent, mirror: Mirror, order: StepOrder, commit: OrderedCommit, base: Base | None
) -> Request:
    return Request(
        settings=order.settings,
        mirror=mirror,
        commit=mirror.commit(commit.sha),
        branch=order.branch,
        kind=commit.kind,
        select=commit.select,
        base=base,
        places=agent.workplace(order.settings.name).places,
        environments=agent.environments,
        budget=order.budget if commit.kind is Kind.CHANGE else None,
    )


def write_files(agent: Agent, order: StepOrder, found: Measured, report: str) -> None:
    """Write the files of a step to its output folder; `report` is the text of covtrack.json.

    coverage.xml and covtrack.json are of the last result, junit.xml and the bundle of all.
    """
    results = found.results
    last, workplace = results[-1], agent.workplace(order.settings.name)
    what = Exported(
        mirror=workplace.mirror(),
        commit=last.commit,
        snapshot=last.snapshot,
        environment=last.environment,
        environments=agent.environments,
    )
    write_report(what, "xml", agent.output / COBERTURA, workplace.folder / "scratch")
    try:
        write_whole(agent.output / JUNIT, junit_xml(results))
        write_whole(agent.output / REPORT, report)
    except OSError as error:
        raise InfrastructureError(
            f"{agent.output} cannot be written to: {error.strerror}.", advice="Make room there."
        ) from error
    write_bundle(agent.output / NAME, order.run_id, results, found.held)
