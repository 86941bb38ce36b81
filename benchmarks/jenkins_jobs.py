"""Jobs on a real Jenkins with two agents, while agents, server and tracker are killed with -9.

Then lets it finish, and counts: jobs that did not end, that ended without a result, and commits
that were stored more than once.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import Connection, func, select

from covtrack.store.queued import Build, JobState
from covtrack.store.schema import runs
from tests.jenkins_fixture import RealJenkins
from tests.jenkins_stage import Stage, grown

AWAY_SECONDS = 2.0


def disturb(stage: Stage, what: str) -> None:
    """Kill one part as a crash would, and start it again."""
    if what == "tracker":
        stage.kill_tracker()
        stage.serve()
    elif what == "server":
        stage.jenkins.kill()
        sleep(AWAY_SECONDS)
        stage.jenkins.start()
    else:
        stage.jenkins.kill_agent(what)
        sleep(AWAY_SECONDS)
        stage.jenkins.start_agent(what)


def disturb_until_idle(
    stage: Stage, pause: float, victims: Sequence[str], seconds: float
) -> Counter[str]:
    """Kill one of `victims` after another, in another order each round, `pause` seconds apart."""
    done: Counter[str] = Counter()
    end = monotonic() + seconds
    planned: list[str] = []
    next_at = monotonic() + pause
    while not stage.is_idle() and monotonic() < end:
        sleep(0.5)
        if not victims or monotonic() < next_at:
            continue
        planned = planned or random.sample(list(victims), len(victims))
        what = planned.pop()
        disturb(stage, what)
        done[what] += 1
        next_at = monotonic() + pause
    return done


def count(stage: Stage) -> dict[str, object]:
    """What became of the jobs, their builds, and their commits."""
    jobs = stage.jobs()
    builds: list[Build] = [build for job in jobs for build in stage.builds(job.job_id)]
    stored = Counter(build.job_id for build in builds if build.stored)

    def per_commit(connection: Connection) -> dict[str, int]:
        found = select(runs.c.commit, func.count()).group_by(runs.c.commit)
        return {row[0]: row[1] for row in connection.execute(found)}

    times = stage.database.read(per_commit)
    return {
        "jobs": len(jobs),
        "jobs_by_state": dict(Counter(job.state.value for job in jobs)),
        "jobs_not_ended": sum(job.ended_at is None for job in jobs),
        "jobs_done_without_a_result": sum(
            job.state is JobState.DONE and not times.get(job.commit) for job in jobs
        ),
        "jobs_whose_bundle_was_stored_twice": sum(number > 1 for number in stored.values()),
        "commits_of_jobs_stored_twice": sum(times.get(job.commit, 0) > 1 for job in jobs),
        "builds": len(builds),
        "builds_by_state": dict(Counter(build.state.value for build in builds)),
        "builds_of_jobs": dict(Counter(len(stage.builds(job.job_id)) for job in jobs)),
        "errors": dict(Counter(build.error[:60] for build in builds if build.error)),
    }


def main() -> None:
    """Queue, disturb, count, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--projects", type=int, default=2)
    parser.add_argument("--pause", type=float, default=20.0, help="Seconds between two kills.")
    parser.add_argument("--light", action="store_true", help="Changes that no test can see.")
    parser.add_argument("--quiet", action="store_true", help="Kill nothing.")
    parser.add_argument("--seconds", type=float, default=3600.0)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        jenkins = RealJenkins(Path(name) / "jenkins")
        projects = tuple(f"sample{number}" for number in range(words.projects))
        stage = Stage(Path(name), jenkins, "covtrack", projects)
        try:
            jenkins.start()
            stage.prepare()
            stage.serve()
            for number in range(words.jobs):
                project = projects[number % len(projects)]
                files = {"notes.txt": f"{number}\n"} if words.light else grown(number)
                stage.put_change(project, number + 1, files)
            begun = monotonic()
            victims = () if words.quiet else (*jenkins.agents, "server", "tracker")
            kills = disturb_until_idle(stage, words.pause, victims, words.seconds)
            seconds = monotonic() - begun
            found = count(stage)
        finally:
            stage.stop_tracker()
            jenkins.end()
    head = {
        "light": words.light,
        "seconds": round(seconds, 1),
        "kills": dict(kills),
        "agents": len(jenkins.agents),
    }
    date = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps({**head, **found, "date": date}, indent=1))


if __name__ == "__main__":
    main()
