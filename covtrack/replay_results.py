"""What a replay found out, as values and as JSON: costs, and how far from full runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.holding import MISS, Branches, Explained, Lines, Unproven, count_lines
from jobs.results import Select


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FullRun(Unproven):
    """A full run by coverage.py: what did not run."""

    cpu_seconds: float
    """Of the test workers alone."""
    wall_seconds: float


class ReplayedCommit(_Value):
    """One merge, measured as a change of the one before it; null is unknown, never zero."""

    commit: str
    subject: str
    tests_run: int
    tests_total: int
    cpu_seconds: float
    """Of the whole job, covtrack's own time included."""
    full_cpu_seconds: float | None = None
    """Of a full run's test workers under coverage.py's quickest core, and of the environment."""
    wall_seconds: float
    full_wall_seconds: float | None = None
    run_seconds: float
    """Wall time of the job's test run; `bare_seconds` of the same tests without recording."""
    bare_seconds: float | None = None
    stages: dict[str, float]
    verified: bool = False
    statements: int
    branches: int = 0
    """0 where branches are not measured."""
    false_covered: Lines = {}
    missed: Lines = {}
    false_branches: Branches = {}
    """Branch exits, from line to line, that are falsely said to have been taken."""
    missed_branches: Branches = {}
    explained: tuple[Explained, ...] = ()
    reasons: dict[str, int] = {}
    """Why tests ran, the most frequent first, with how many tests."""
    complete: bool = True
    notes: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every line and branch equals the full run's; meant for verified commits."""
        return not (
            self.false_covered or self.missed or self.false_branches or self.missed_branches
        )

    @property
    def share(self) -> float | None:
        """CPU of the job against the full run's."""
        return self.cpu_seconds / self.full_cpu_seconds if self.full_cpu_seconds else None


class Summary(_Value):
    """All commits of a replay; shares are of the full runs' CPU, null where unknown."""

    commits: int
    verified: int
    identical: int
    false_covered: int
    missed: int
    branches_verified: int = 0
    """Branch exits of the verified commits; 0 where branches are not measured."""
    false_branches: int = 0
    missed_branches: int = 0
    unexplained: int
    tests_run: int
    tests_total: int
    cpu_seconds: float
    full_cpu_seconds: float | None
    """Full runs of all commits; those that were not made count as the mean of the others."""
    cpu_share_mean: float | None
    cpu_share_median: float | None
    wall_seconds_median: float | None
    within_wall_aim: int | None
    """Commits whose wall time is at most 1.25 times the bare run's, + 2 s."""


class Replay(_Value):
    """A replay as it is printed with `--format json`."""

    version: Literal[1] = 1
    project: str
    method: Literal["affected", "affected-all", "changed", "all", "append"]
    recorder: str
    python: str
    commits: tuple[ReplayedCommit, ...]
    summary: Summary


def summarise(commits: Iterable[ReplayedCommit]) -> Summary:
    """The figures of all commits together."""
    rows = tuple(commits)
    verified = [row for row in rows if row.verified]
    known = [row.full_cpu_seconds for row in rows if row.full_cpu_seconds]
    usual = sum(known) / len(known) if known else None
    full = [row.full_cpu_seconds or usual for row in rows]
    shares = [row.cpu_seconds / cost for row, cost in zip(rows, full, strict=True) if cost]
    cpu = sum(row.cpu_seconds for row in rows)
    timed = [row for row in rows if row.bare_seconds is not None]
    return Summary(
        commits=len(rows),
        verified=len(verified),
        identical=sum(row.identical for row in verified),
        false_covered=sum(count_lines(row.false_covered) for row in verified),
        missed=sum(count_lines(row.missed) for row in verified),
        branches_verified=sum(row.branches for row in verified),
        false_branches=sum(count_lines(row.false_branches) for row in verified),
        missed_branches=sum(count_lines(row.missed_branches) for row in verified),
        unexplained=sum(e.why == MISS for row in verified for e in row.explained),
        tests_run=sum(row.tests_run for row in rows),
        tests_total=sum(row.tests_total for row in rows),
        cpu_seconds=cpu,
        full_cpu_seconds=sum(cost for cost in full if cost) if usual else None,
        cpu_share_mean=cpu / sum(cost for cost in full if cost) if usual else None,
        cpu_share_median=median(shares) if shares else None,
        wall_seconds_median=median(row.wall_seconds for row in rows) if rows else None,
        within_wall_aim=sum(within_aim(row) for row in timed) if timed else None,
    )


def within_aim(row: ReplayedCommit) -> bool:
    """Whether the verdict came within 1.25 times the bare run of the same tests, + 2 s."""
    return row.wall_seconds <= 1.25 * (row.bare_seconds or 0.0) + 2.0


METHODS: Mapping[str, Select] = {
    "affected": Select.AFFECTED,
    "affected-all": Select.AFFECTED_ALL,
    "changed": Select.CHANGED,
    "all": Select.ALL,
    "append": Select.CHANGED,
}
