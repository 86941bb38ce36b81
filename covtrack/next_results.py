"""What to test next, as values and as JSON. Pure; for people and for tools that write tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from math import floor
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from covtrack.contract import percent_of, round_down
from covtrack.contract_types import Number, Percent, Utf8
from covtrack.store.values import StoredRun
from jobs.results import Counts, UncoveredRange
from jobs.untested import Untested, weigh

Line = Annotated[int, Field(ge=1)]
WEIGHT: Literal["uncovered statements * (1 + changes)"] = "uncovered statements * (1 + changes)"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NextFunction(_Value):
    """A function that lacks coverage; what functions inside it lack is theirs."""

    path: Utf8
    name: Utf8
    """Qualified, such as Class.method."""
    first: Line
    last: Line
    """Lines first..last, from the def to the end of its body."""
    uncovered: Number
    missing: tuple[int, ...]
    """First lines of the uncovered statements."""
    gain: Annotated[float, Field(ge=0)]
    """Percent points that the project gains with all of them covered, rounded down to three
    decimals."""
    changes: Number
    """Commits of the window that changed a line of it."""
    weight: Number
    nearest_test: Utf8 | None
    """The test that ran the closest line of the function, else of its file; null where no test
    ran any line of the file."""


class Next(_Value):
    """What `covtrack next --format json` prints; the heaviest function comes first."""

    version: Literal[1] = 1
    project: Utf8
    branch: Utf8
    commit: Utf8
    statements: Number
    covered: Number
    percent: Percent | None
    target: Percent
    to_target: Number
    """Statements that still have to be covered; 0 where the target is met."""
    months: Number
    since: datetime
    """Changes are counted from then to the commit."""
    changes: Number
    """All first-parent commits of the window that changed a Python file."""
    weight: Literal["uncovered statements * (1 + changes)"] = WEIGHT
    """How functions are ordered; equal ones by uncovered statements, then by path and line."""
    functions: tuple[NextFunction, ...]
    functions_total: Number
    """All functions that lack coverage, listed or not."""
    uncovered_in_functions: Number
    uncovered_elsewhere: Number
    """Uncovered statements outside functions: they run at import."""
    unknown_files: tuple[Utf8, ...]
    """Files with uncovered statements whose functions are not known here."""


def points(statements: int, total: Counts) -> float:
    """Percent points that `statements` are of the total, rounded down to three decimals."""
    if not total.statements:
        return 0.0
    return floor(Fraction(statements * 100_000, total.statements)) / 1000


def order(functions: Sequence[Untested], changes: Mapping[Untested, int]) -> list[Untested]:
    """The heaviest first."""

    def key(function: Untested) -> tuple[int, int, str, int]:
        uncovered = len(function.missing)
        weight = weigh(uncovered, changes.get(function, 0))
        return -weight, -uncovered, function.path, function.first

    return sorted(functions, key=key)


def describe_function(
    function: Untested, changes: int, tested: UncoveredRange, total: Counts
) -> NextFunction:
    """One function as it is printed."""
    uncovered = len(function.missing)
    return NextFunction(
        path=function.path,
        name=function.name,
        first=function.first,
        last=function.last,
        uncovered=uncovered,
        missing=function.missing,
        gain=points(uncovered, total),
        changes=changes,
        weight=weigh(uncovered, changes),
        nearest_test=tested.nearest_test,
    )


def describe_run(run: StoredRun, target: Fraction) -> dict[str, object]:
    """What the answer says of the run that it rests on."""
    return {
        "project": run.project,
        "branch": run.branch,
        "commit": run.commit,
        "statements": run.total.statements,
        "covered": run.total.covered,
        "percent": percent_of(run.total),
        "target": round_down(target),
        "to_target": run.total.to_target(target),
    }
