"""What a build on Jenkins adds to the step that it runs: the same orders, there and by hand.

Changes go one after another from the queue through a real Jenkins to the stored result; after
each, its order is done again by hand in the agent's own state folder, mirror and environment warm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic, sleep

from real_projects import about, keep, print_table, run_timed, say

from covtrack.store.queued import Job, JobState
from tests.jenkins_fixture import RealJenkins
from tests.jenkins_stage import ROOT, Stage, grown

SECONDS = 300.0
AGENT = "agent1"  # the only one


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Wall seconds of one change: on Jenkins in all, its parts there, and by hand."""

    whole: float
    until_begun: float
    from_begun: float
    by_hand: float


def wait(stage: Stage, job_id: int) -> Job:
    """The job once it is done."""
    end = monotonic() + SECONDS
    while monotonic() < end:
        job = next(job for job in stage.jobs() if job.job_id == job_id)
        if job.state is JobState.FAILED:
            raise SystemExit(f"Job {job_id} failed: {job.error}")
        if job.state is JobState.DONE:
            return job
        sleep(0.05)
    raise SystemExit(f"Job {job_id} did not end:\n{stage.log()}")


def measure(stage: Stage, number: int) -> Taken:
    """One change on Jenkins, and the same order by hand."""
    job = wait(stage, stage.put_change(stage.projects[0], number, grown(number)))
    (build,) = stage.builds(job.job_id)
    assert build.number is not None and job.ended_at is not None
    info = stage.client.build(stage.job, build.number)
    assert info is not None
    return Taken(
        whole=(job.ended_at - job.queued_at).total_seconds(),
        until_begun=(info.began - job.queued_at).total_seconds(),
        from_begun=(job.ended_at - info.began).total_seconds(),
        by_hand=by_hand(stage, number, build.order, build.baseline),
    )


def by_hand(stage: Stage, number: int, order: Mapping[str, object], baseline: str | None) -> float:
    """Wall seconds of the order as a command of its own, where the agent's steps run."""
    folder = stage.folder / "hand" / str(number)
    folder.mkdir(parents=True)
    file = folder / "order.json"
    file.write_text(json.dumps(order))
    assert baseline is not None
    argv: list[str | Path] = [sys.executable, "-P", "-m", "covtrack", "step", "--order", file]
    argv += ["--baseline", stage.folder / "state" / baseline, "--output", folder]
    argv += ["--state", stage.folder / "jenkins" / AGENT / "state"]
    timed = run_timed(argv, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)})
    if timed.completed.status:
        raise SystemExit(timed.completed.last_words)
    return timed.wall


def main() -> None:
    """Warm up, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=12)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        jenkins = RealJenkins(Path(name) / "jenkins", agents=1)
        stage = Stage(Path(name), jenkins, "covtrack")
        try:
            jenkins.start()
            stage.prepare()
            stage.serve()
            wait(stage, stage.put_advance(stage.projects[0]))
            measure(stage, 1)
            taken = []
            for number in range(2, words.changes + 2):
                taken.append(measure(stage, number))
                say(str(taken[-1]))
        finally:
            stage.stop_tracker()
            jenkins.end()
    tell(taken)


def tell(taken: list[Taken]) -> None:
    """Keep the rows, print medians."""
    rows = [{name: round(getattr(one, name), 2) for name in Taken.__slots__} for one in taken]
    keep("jenkins_overhead", {"about": about("-"), "changes": rows})
    columns = {
        "on Jenkins, queue to stored": [one.whole for one in taken],
        "of it until the build begins": [one.until_begun for one in taken],
        "of it from then to stored": [one.from_begun for one in taken],
        "the same step by hand": [one.by_hand for one in taken],
        "added": [one.whole - one.by_hand for one in taken],
    }
    print_table(
        ["wall seconds", "median", "least", "most"],
        [
            [name, *(f"{value:.2f}" for value in (median(found), min(found), max(found)))]
            for name, found in columns.items()
        ],
    )


if __name__ == "__main__":
    main()
