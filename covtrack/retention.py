"""Which snapshots are kept, and why: a policy on values. Pure: reads no clock and no disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from covtrack.store.values import StoredRun
from jobs.results import Kind

Count = Annotated[int, Field(ge=0, le=100_000)]


class Keep(BaseModel):
    """The table [keep] of covtrack.toml.

    Of each branch the newest `baselines`, and before them the newest of each week for so many
    `weeks`; changes that are open, and all of the last `changes` days; logs of jobs and events
    that were acted on for `logs` days. Kept snapshots that nobody asked for in `pack` days are
    packed. Environments that no job used for `environments` days go. Which tests passed in a run
    is known for `outcomes` days.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    baselines: Annotated[int, Field(ge=1, le=100_000)] = 20
    weeks: Count = 52
    changes: Count = 30
    logs: Count = 30
    pack: Count = 2
    environments: Count = 14
    outcomes: Count = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What must stay whatever the policy: `commits` are those of open changes and living jobs.

    `paths` are snapshots that another machine works on, relative to the state folder.
    """

    commits: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()


def choose_kept(
    runs: Sequence[StoredRun], keep: Keep, needed: Needed, now: datetime
) -> Mapping[int, str]:
    """Ids of the usable runs of one project whose snapshots are kept, each with why."""
    newest = _newest_of_commit(runs)
    kept: dict[int, str] = {}
    for branch in sorted({run.branch for run in newest}):
        _keep_baselines([run for run in newest if run.branch == branch], keep, kept)
    recent = now - timedelta(days=keep.changes)
    for run in newest:
        if run.commit in needed.commits:
            kept.setdefault(run.run_id, "of an open change or a living job")
        elif run.kind is Kind.CHANGE and run.measured_at >= recent:
            kept.setdefault(run.run_id, "a change of late")
    for run in runs:
        if run.snapshot in needed.paths:
            kept.setdefault(run.run_id, "another machine works on it")
    _keep_bases(newest, kept)
    return kept


def _newest_of_commit(runs: Iterable[StoredRun]) -> list[StoredRun]:
    """Of several usable runs of a commit on a branch only the newest is ever rested on."""
    found: dict[tuple[str, str], StoredRun] = {}
    for run in runs:
        known = found.get((run.branch, run.commit))
        if run.usable and (known is None or run.run_id > known.run_id):
            found[run.branch, run.commit] = run
    return list(found.values())


def _keep_baselines(runs: Iterable[StoredRun], keep: Keep, kept: dict[int, str]) -> None:
    baselines = [run for run in runs if run.kind is Kind.BASELINE]
    baselines.sort(key=lambda run: (run.committed_at, run.run_id), reverse=True)
    # An incomplete one is no base: beside those that are, it takes no place.
    complete = [run for run in baselines if run.complete]
    for run in complete[: keep.baselines]:
        kept[run.run_id] = "one of the newest baselines"
    weeks: set[tuple[int, int]] = set()
    for run in complete[keep.baselines :]:
        week = run.committed_at.isocalendar()[:2]
        if week not in weeks and len(weeks) < keep.weeks:
            kept[run.run_id] = "the baseline of its week"
        weeks.add(week)


def _keep_bases(newest: Collection[StoredRun], kept: dict[int, str]) -> None:
    """What the kept changes rest on, and what these rest on if they are changes too."""
    by_commit: dict[str, list[StoredRun]] = {}
    for run in newest:
        by_commit.setdefault(run.commit, []).append(run)
    waiting = [run for run in newest if run.run_id in kept]
    while waiting:
        run = waiting.pop()
        if run.kind is Kind.CHANGE and run.base:
            for base in by_commit.get(run.base, ()):
                if base.run_id not in kept:
                    kept[base.run_id] = "a kept change rests on it"
                    waiting.append(base)
