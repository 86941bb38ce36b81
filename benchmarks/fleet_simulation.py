"""A week of OpenStack's reviews on a fleet of agents, by simulation on measured figures.

Every figure that can be measured is read from results/*.json; what is assumed is in ASSUMED and
stands in the output. A patch set comes, waits for an agent and for its project (one job of a
project at a time, as `claim` deals them out), has its environment made where the agent lacks it,
and runs as long as a real merge did. Written: results/fleet_simulation.json, whose
figures docs/scale.rst shows.

    python benchmarks/fleet_simulation.py
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

RESULTS = Path(__file__).parent / "results"
REPLAYS = ("replay_novaclient", "replay_oslo_utils", "replay_placement")
HOUR = 3600.0
WEEK = 7 * 24 * HOUR
MOST_AGENTS = 128
LOADS = (1, 3)
SLOWER = (1, 3, 10)
AIM = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What was not measured. Weights of days from Monday on; hours by a cosine around the peak."""

    projects: int = 1000
    patch_sets_a_week: int = 20_000
    merges_per_patch_set: float = 0.35
    days: tuple[float, ...] = (0.18, 0.19, 0.19, 0.18, 0.16, 0.05, 0.05)
    peak_hour_utc: float = 15.0
    swing: float = 0.8  # the peak hour has 1.8 times the day's mean, the quietest 0.2 times
    series_mean: float = 2.0  # patch sets pushed at once, of one project: geometric
    zipf: float = 1.0  # the k-th busiest project gets 1/k**zipf of the load
    slower: float = 1.0  # a job takes so many times as long as those measured
    events_per_patch_set: float = 20.0  # comments, votes, ref updates: all that the stream tells
    project_limit: bool = True  # one job of a project at a time
    seed: int = 7


ASSUMED = Assumed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the other benchmarks found; seconds and bytes, `sources` says where from."""

    jobs: tuple[tuple[float, ...], ...]  # wall seconds of each merge, by project
    full_runs: tuple[float, ...]  # wall seconds of a full run, by project
    beside: float  # what a verdict takes beside the job
    environment: dict[str, float]  # seconds of a new environment, by where it comes from
    run_bytes: float
    full_run_bytes: float
    snapshot_bytes: float
    event_bytes: float
    job_bytes: float
    tracker: dict[str, float]  # seconds of the database's part of a job, by what it is
    claim: dict[str, float]  # seconds of a claim, by jobs in the table
    events_per_second: float
    sources: dict[str, str]


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def read_measured() -> Measured:
    """All inputs; KeyError or FileNotFoundError where one was not measured."""
    replays = [read(f"{name}_sufficient")["commits"] for name in REPLAYS]
    latency, storm = read("gerrit_latency"), read("gerrit_storm")
    cold, growth = read("cold_agent")["projects"], read("database_growth")
    kinds = next(iter(cold.values()))["median_wall"]
    projects = growth["projects"].values()
    events, ages = growth["events"], growth["seconds_by_jobs_in_the_table"]
    oldest = ages[max(ages, key=int)]
    full = [
        [one["full_wall_seconds"] for one in commits if one["full_wall_seconds"]]
        for commits in replays
    ]
    return Measured(
        jobs=tuple(tuple(one["wall_seconds"] for one in commits) for commits in replays),
        full_runs=tuple(_mean(seconds) for seconds in full),
        beside=latency["median_overhead"],
        environment={
            kind: _mean([one["median_wall"][kind] for one in cold.values()]) for kind in kinds
        },
        run_bytes=_mean([one["incremental"]["bytes_per_run"] for one in projects]),
        full_run_bytes=_mean([one["full"]["bytes_per_run"] for one in projects]),
        snapshot_bytes=_mean([one["snapshot_bytes_incremental_mean"] for one in projects]),
        event_bytes=events["bytes_each"]["events"],
        job_bytes=events["bytes_each"]["jobs"],
        tracker={
            "events": events["seconds_per_event_stored"] * ASSUMED.events_per_patch_set,
            "dispatch": events["seconds_per_event_dispatched"] * ASSUMED.events_per_patch_set,
            "claim and end": oldest["claim and end a job"],
            "save run": _mean([one["incremental"]["seconds_per_save_median"] for one in projects]),
        },
        claim={rows: one["claim and end a job"] for rows, one in ages.items()},
        events_per_second=storm["events_per_second"],
        sources={
            "jobs, full_runs": ", ".join(f"{name}_sufficient.json" for name in REPLAYS),
            "beside": "gerrit_latency.json, median_overhead",
            "environment": "cold_agent.json, mean of the projects' medians",
            "run_bytes, snapshot_bytes, event_bytes, job_bytes, tracker, claim": (
                "database_growth.json"
            ),
            "events_per_second": "gerrit_storm.json (SQLite)",
        },
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def rates(assumed: Assumed) -> list[float]:
    """The share of a week's patch sets in each of its 168 hours."""
    found = []
    for day in assumed.days:
        for hour in range(24):
            angle = 2 * math.pi * (hour - assumed.peak_hour_utc) / 24
            found.append(day / 24 * (1 + assumed.swing * math.cos(angle)))
    return [rate / sum(found) for rate in found]


@dataclass(slots=True)
class SimulatedJob:
    """A job: seconds since Monday 0:00 UTC, its project's number, how long it runs."""

    at: float
    project: int
    seconds: float
    change: bool


def draw_jobs(assumed: Assumed, measured: Measured, chance: random.Random) -> list[SimulatedJob]:
    """A week's jobs in the order in which they come."""
    hours, wanted = rates(assumed), assumed.patch_sets_a_week
    weights = [1 / (rank + 1) ** assumed.zipf for rank in range(assumed.projects)]
    found: list[SimulatedJob] = []

    def add(at: float, project: int, change: bool) -> None:
        merge = chance.choice(chance.choice(measured.jobs))  # of any of the projects alike
        seconds = merge * assumed.slower + measured.beside
        found.append(SimulatedJob(at=at, project=project, seconds=seconds, change=change))

    patch_sets = 0
    while patch_sets < wanted:
        hour = chance.choices(range(len(hours)), hours)[0]
        at = (hour + chance.random()) * HOUR
        project = chance.choices(range(assumed.projects), weights)[0]
        size = 1
        while chance.random() > 1 / assumed.series_mean:
            size += 1
        for _ in range(size):
            add(at, project, True)
        patch_sets += size
    for one in tuple(found):
        if chance.random() < assumed.merges_per_patch_set:
            later = one.at + chance.expovariate(1 / (8 * HOUR))
            add(later % WEEK, one.project, False)
    return sorted(found, key=lambda job: job.at)


@dataclass(slots=True)
class Fleet:
    """The agents, what waits by project, and what each agent has environments of."""

    free: list[int]
    has: dict[int, set[int]]
    waiting: dict[int, deque[SimulatedJob]]
    last: dict[int, float]
    busy: set[int]

    def next_project(self, limit: bool) -> int | None:
        """Whose turn it is: started longest ago, of those that have none running."""
        able = [p for p in self.waiting if not (limit and p in self.busy)]
        return min(able, key=lambda p: self.last.get(p, -1.0), default=None)


def simulate(
    jobs: Sequence[SimulatedJob], agents: int, environment: float, limit: bool
) -> Iterator[tuple[SimulatedJob, float, float]]:
    """Each job with the seconds that it waited and that its agent had it."""
    fleet = Fleet(list(range(agents)), defaultdict(set), defaultdict(deque), {}, set())
    ends: list[tuple[float, int, int]] = []
    queue = deque(jobs)
    while queue or ends or fleet.waiting:
        coming = queue[0].at if queue else math.inf
        now = min(coming, ends[0][0] if ends else math.inf)
        while ends and ends[0][0] <= now:
            _, agent, ended = heapq.heappop(ends)
            fleet.free.append(agent)
            fleet.busy.discard(ended)
        while queue and queue[0].at <= now:
            one = queue.popleft()
            fleet.waiting[one.project].append(one)
        while fleet.free:
            project = fleet.next_project(limit)
            if project is None:
                break
            job = fleet.waiting[project].popleft()
            if not fleet.waiting[project]:
                del fleet.waiting[project]
            agent = fleet.free.pop()
            seconds = job.seconds
            if project not in fleet.has[agent]:
                fleet.has[agent].add(project)
                seconds += environment
            fleet.last[project] = now
            fleet.busy.add(project)
            heapq.heappush(ends, (now + seconds, agent, project))
            yield job, now - job.at, seconds


def describe(
    jobs: Sequence[SimulatedJob], agents: int, environment: float, limit: bool
) -> dict[str, Any]:
    """Waits of patch sets and how busy the agents are."""
    found = list(simulate(jobs, agents, environment, limit))
    waits = sorted(wait for job, wait, _ in found if job.change)
    spent = sum(seconds for _, _, seconds in found)
    return {
        "agents": agents,
        "jobs": len(found),
        "wait_p50": round(waits[len(waits) // 2], 1),
        "wait_p95": round(waits[int(len(waits) * 0.95)], 1),
        "wait_p99": round(waits[int(len(waits) * 0.99)], 1),
        "wait_longest": round(waits[-1], 1),
        "busy": round(spent / agents / WEEK, 4),
        "agent_hours": round(spent / HOUR, 1),
    }


def agents_needed(jobs: Sequence[SimulatedJob], environment: float, limit: bool) -> dict[str, Any]:
    """The fewest agents with a p95 wait below AIM, or what the most of them do not reach."""
    low, high, best = 1, 2, None
    while high <= MOST_AGENTS:
        best = describe(jobs, high, environment, limit)
        if best["wait_p95"] < AIM:
            break
        low, high = high, high * 2
    else:
        assert best is not None
        return {**best, "reached": False}
    while high - low > 1:
        middle = (low + high) // 2
        tried = describe(jobs, middle, environment, limit)
        if tried["wait_p95"] < AIM:
            high, best = middle, tried
        else:
            low = middle
    if high == 2 and (one := describe(jobs, 1, environment, limit))["wait_p95"] < AIM:
        best = one
    return {**best, "reached": True}


def simulate_loads(measured: Measured) -> list[dict[str, Any]]:
    """Agents needed as load grows, jobs get slower, and without the limit per project."""
    found = []
    for load in LOADS:
        for slower in (one for one in SLOWER if load * one <= 10):
            for limit in (True, False):
                patch_sets = ASSUMED.patch_sets_a_week * load
                assumed = replace(
                    ASSUMED, patch_sets_a_week=patch_sets, slower=slower, project_limit=limit
                )
                jobs = draw_jobs(assumed, measured, random.Random(assumed.seed))  # noqa: S311
                environment = measured.environment["cold, wheels alone"]
                needed = agents_needed(jobs, environment, limit)
                row = {"load": load, "slower": slower, "limit": limit, **needed}
                found.append(row)
                click.echo(json.dumps(row), err=True)
    return found


def weigh_environments(measured: Measured, agents: int) -> list[dict[str, Any]]:
    """The same week on the same agents, by where a new environment comes from."""
    jobs = draw_jobs(ASSUMED, measured, random.Random(ASSUMED.seed))  # noqa: S311
    return [
        {
            "environment": kind,
            "seconds": round(seconds, 2),
            **describe(jobs, agents, seconds, True),
        }
        for kind, seconds in measured.environment.items()
    ]


def grow(measured: Measured) -> dict[str, float]:
    """Bytes a week and a year: database by kind, snapshots."""
    patch_sets = ASSUMED.patch_sets_a_week
    runs = patch_sets * (1 + ASSUMED.merges_per_patch_set)
    events = patch_sets * ASSUMED.events_per_patch_set
    week = {
        "runs": runs * measured.run_bytes,
        "jobs": runs * measured.job_bytes,
        "events (kept 30 days)": events * measured.event_bytes,
    }
    return {
        "runs_a_week": runs,
        **{f"bytes_a_week: {name}": round(size) for name, size in week.items()},
        "bytes_a_year: database": round(
            52 * (week["runs"] + week["jobs"]) + 30 / 7 * week["events (kept 30 days)"]
        ),
        "bytes_once: first full runs": round(ASSUMED.projects * measured.full_run_bytes),
        "bytes_a_week: snapshots": round(runs * measured.snapshot_bytes),
        "bytes_a_second_at_peak: snapshots to and from agents": round(
            2 * measured.snapshot_bytes * runs * max(rates(ASSUMED)) / HOUR
        ),
    }


def load_tracker(measured: Measured) -> dict[str, Any]:
    """How busy one thread of the tracker is with the database in the busiest hour."""
    peak = ASSUMED.patch_sets_a_week * max(rates(ASSUMED)) / HOUR
    jobs = peak * (1 + ASSUMED.merges_per_patch_set)
    per = measured.tracker
    share = peak * (per["events"] + per["dispatch"]) + jobs * (
        per["claim and end"] + per["save run"]
    )
    events = peak * ASSUMED.events_per_patch_set
    return {
        "patch_sets_an_hour_at_peak": round(peak * HOUR),
        "jobs_a_second_at_peak": round(jobs, 4),
        "events_a_second_at_peak": round(events, 2),
        "share_of_the_measured_event_rate": round(events / measured.events_per_second, 5),
        "seconds_of_the_database_per_patch_set": {k: round(v, 5) for k, v in per.items()},
        "busy_share_at_peak": round(share, 5),
        "load_at_which_it_is_busy_all_the_time": round(1 / share, 1),
        "claim_seconds_by_jobs_in_the_table": measured.claim,
    }


def print_tables(found: dict[str, Any]) -> None:
    """The tables of docs/scale.rst, as it shows them."""
    rows = [
        (
            f"{one['load']} x",
            f"{one['slower']} x",
            "one of a project" if one["limit"] else "no limit",
            str(one["agents"]) if one["reached"] else f"not with {one['agents']}",
            f"{one['wait_p50']:.0f} s",
            f"{one['wait_p95']:.0f} s",
            f"{one['wait_p99']:.0f} s",
            f"{100 * one['busy']:.0f} %",
        )
        for one in found["loads"]
    ]
    _print_grid(("load", "jobs slower", "at a time", "agents", "p50", "p95", "p99", "busy"), rows)
    kinds = [
        (
            one["environment"],
            f"{one['seconds']:.1f} s",
            f"{one['wait_p95']:.0f} s",
            f"{one['agent_hours']:.0f} h",
        )
        for one in found["environments"]
    ]
    _print_grid(("environment", "made in", "p95 wait", "all agents"), kinds)
    _print_grid(("growth", "amount"), [(k, f"{v:,.0f}") for k, v in found["growth"].items()])
    _print_grid(("tracker", "amount"), [(k, str(v)) for k, v in found["tracker"].items()])


def _print_grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[n]) for row in (titles, *rows)) for n in range(len(titles))]
    rule = " ".join("=" * width for width in widths)
    lines = [rule, _line(titles, widths), rule, *(_line(row, widths) for row in rows), rule, ""]
    click.echo("\n".join(lines))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join(cell.ljust(n) for cell, n in zip(cells, widths, strict=True)).rstrip()


@click.command()
def main() -> None:
    """Simulate, write results/fleet_simulation.json and print the tables of docs/scale.rst."""
    measured = read_measured()
    loads = simulate_loads(measured)
    agents = loads[0]["agents"]
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "assumed": asdict(ASSUMED),
        "measured": {
            **{k: v for k, v in asdict(measured).items() if k != "jobs"},
            "jobs_mean_seconds": [round(_mean(one), 2) for one in measured.jobs],
        },
        "loads": loads,
        "environments": weigh_environments(measured, agents),
        "growth": grow(measured),
        "tracker": load_tracker(measured),
    }
    path = RESULTS / "fleet_simulation.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    click.echo(f"wrote {path}", err=True)
    print_tables(found)


if __name__ == "__main__":
    main()
