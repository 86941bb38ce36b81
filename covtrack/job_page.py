"""The page of one job, for people: what the link of a verdict shows. Pure but for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from covtrack.endings import describe
from covtrack.gerrit.checks import Measured, describe_state
from covtrack.gerrit.policy import describe_patch, describe_provisional
from covtrack.gerrit.settings import GerritServer
from covtrack.gerrit.verdict import (
    FAILED,
    describe_faults,
    describe_gain,
    describe_project,
    describe_tests,
)
from covtrack.grids import clean
from covtrack.store.queued import ALIVE, OF_CHANGE, Job
from jobs.results import JobResult

REFRESH_SECONDS = 5
MOST_SHOWN = 500
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def render_page(
    job: Job, measured: Measured | None, others: Sequence[Job], server: GerritServer | None
) -> str:
    """The page as HTML; `others` are the newest jobs of the same change, `server` that of it."""
    pages = Environment(
        loader=PackageLoader("covtrack"), autoescape=True, undefined=StrictUndefined
    )
    result = measured.result if measured else None
    return pages.get_template("job.html").render(
        title=describe(job),
        job=job,
        state=describe_state(job, measured),
        refresh=REFRESH_SECONDS if job.state in ALIVE else None,
        change=change_address(job, server),
        error=clean(job.error),
        figures=figures(measured) if measured else (),
        sentences=sentences(measured) if measured else (),
        ranges=ranges(result) if result else (),
        failed=failed(result) if result else (),
        seconds={} if result is None else rounded(result.seconds),
        result=result,
        others=[one for one in others if one.job_id != job.job_id],
    )


def change_address(job: Job, server: GerritServer | None) -> str | None:
    """Where Gerrit shows the patch set; None for a branch."""
    if server is None or job.kind not in OF_CHANGE:
        return None
    return f"{server.url}/c/{job.change}/{job.patch_set}"


def figures(measured: Measured) -> tuple[tuple[str, str], ...]:
    """What is counted, in words; the prospect only where it is known."""
    result, gain = measured.result, describe_gain(measured.gain)
    told = [
        ("Patch coverage", describe_patch(result)),
        ("Project", describe_project(result)),
        ("Prospect", gain),
        ("Tests", describe_tests(result)),
    ]
    return tuple((name, words) for name, words in told if words)


def sentences(measured: Measured) -> tuple[str, ...]:
    """What was decided and why, what went wrong, what the figures rest on."""
    result = measured.result
    open_ = (describe_provisional(result.provisional),) if result.provisional else ()
    decided = (clean(sentence) for sentence in measured.decision.sentences)
    notes = (clean(note) for note in result.notes)
    return (*open_, *decided, *describe_faults(result.faults), *notes)


def ranges(result: JobResult) -> tuple[Mapping[str, Any], ...]:
    """The patch's uncovered ranges of lines, the first MOST_SHOWN."""
    parts = result.patch.uncovered[:MOST_SHOWN] if result.patch else ()
    return tuple(
        {
            "path": clean(part.path),
            "lines": str(part.first) if part.first == part.last else f"{part.first}-{part.last}",
            "nearest": clean(part.nearest_test or "none in this file"),
        }
        for part in parts
    )


def failed(result: JobResult) -> tuple[str, ...]:
    """The tests that failed, the first MOST_SHOWN."""
    found = (clean(one.test) for one in result.outcomes if one.status in FAILED)
    return tuple(found)[:MOST_SHOWN]


def rounded(seconds: Mapping[str, float]) -> Mapping[str, str]:
    """How long each stage took, in seconds; what took no time is left out."""
    return {name: f"{taken:.1f}" for name, taken in seconds.items() if taken >= 0.05}


def address_of(place: str, job_id: int) -> str:
    """The page of a job below `place`, where browsers find covtrack."""
    return f"{place.rstrip('/')}/jobs/{job_id}"
