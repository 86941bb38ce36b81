"""Made-up job results for tests: one by hand, and Hypothesis strategies for any."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from covtrack.store.values import StoredRun
from jobs.results import (
    Before,
    Counts,
    Fault,
    FaultKind,
    FileMeasure,
    JobResult,
    Kind,
    Measurement,
    Outcome,
    PatchCoverage,
    Provisional,
    Select,
    Status,
    TestCounts,
    UncoveredRange,
)

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
OWN = FileMeasure(
    path="pkg/a.py", counts=Counts(statements=9, covered=7, excluded=1), missing=(3, 12)
)
COPIED = FileMeasure(
    path="pkg/openstack/b.py",
    counts=Counts(statements=4, covered=1),
    missing=(1, 2, 4),
    vendored=True,
)
RESULT = JobResult(
    project="demo",
    branch="master",
    commit="a" * 40,
    subject="Add a thing",
    committed_at=NOON,
    base="b" * 40,
    select=Select.CHANGED,
    kind=Kind.BASELINE,
    tests=TestCounts(run=2, passed=1, failed=1, carried=5, deselected=1),
    measurement=Measurement(files=(OWN, COPIED)),
    before=Before(total=Counts(statements=8, covered=5), vendored=COPIED.counts),
    faults=(
        Fault(kind=FaultKind.TEST, subject="t.Two", sentence="It failed.", advice="Mend it."),
    ),
    outcomes=(
        Outcome(test="t.One", status=Status.PASSED, seconds=0.25),
        Outcome(test="t.Two", status=Status.FAILED, seconds=1.5, details="Traceback\n  boom"),
    ),
    carried={"b" * 40: 4, "c" * 40: 1},
    complete=True,
    snapshot=Path("/job/coverage"),
    recorder="monitoring",
    environment="e" * 32,
    notes=("A note.",),
    seconds={"run": 2.5, "merge": 0.125},
    cpu_seconds=4.75,
    patch=PatchCoverage(
        parent="b" * 40,
        statements=4,
        covered=2,
        uncovered=(
            UncoveredRange(path="pkg/a.py", first=3, last=3, nearest_test="t.One"),
            UncoveredRange(path="pkg/a.py", first=12, last=14),
        ),
    ),
)


OPEN = Provisional(
    budget=60.0,
    tests_affected=840,
    tests_run=12,
    tests_left=300,
    seconds_left=90.5,
    ways_left=2,
    undecided={"pkg/a.py": (3,), "pkg/c.py": (1, 7)},
)


def make_result(letter: str, *, hours: float = 0, **changes: Any) -> JobResult:
    """A result of the commit of 40 such letters, committed some hours after noon."""
    moment = NOON + timedelta(hours=hours)
    return replace(RESULT, **{"commit": letter * 40, "committed_at": moment, **changes})


def make_stored(**changes: Any) -> StoredRun:
    """A stored run of RESULT."""
    shared = {field.name for field in fields(StoredRun)} & {field.name for field in fields(RESULT)}
    known: dict[str, Any] = {name: getattr(RESULT, name) for name in shared - {"snapshot"}}
    run = StoredRun(
        **known,
        run_id=1,
        usable=True,
        tree=None,
        snapshot="snapshots/a",
        sha256="f" * 64,
        measured_at=NOON,
        total=RESULT.measurement.total,
        vendored=RESULT.measurement.vendored,
    )
    return replace(run, **changes)


SMALL = st.integers(min_value=0, max_value=2**31 - 1)
FLOATS = st.floats(min_value=0, max_value=1e9)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)  # NUL and surrogates too
LINES = st.frozensets(st.integers(1, 20_000), max_size=30).map(lambda s: tuple(sorted(s)))
MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2),
    max_value=datetime(2100, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)
COUNTS = st.builds(
    lambda statements, share, excluded, branches, taken: Counts(
        statements=statements,
        covered=int(statements * share),
        excluded=excluded,
        branches=branches,
        branches_covered=int(branches * taken),
    ),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.integers(0, 1000),
    st.one_of(st.just(0), st.integers(0, 10**6)),
    st.floats(0, 1),
)
FILES = st.builds(FileMeasure, path=TEXTS, counts=COUNTS, missing=LINES, vendored=st.booleans())
OUTCOMES = st.builds(
    Outcome, test=TEXTS, status=st.sampled_from(Status), seconds=FLOATS, details=TEXTS
)
FAULTS = st.builds(
    Fault, kind=st.sampled_from(FaultKind), subject=TEXTS, sentence=TEXTS, advice=TEXTS
)
PATCHES = st.builds(
    PatchCoverage,
    parent=TEXTS,
    statements=SMALL,
    covered=SMALL,
    uncovered=st.lists(
        st.builds(
            UncoveredRange,
            path=TEXTS,
            first=st.integers(1, 20_000),
            last=st.integers(1, 20_000),
            nearest_test=st.none() | TEXTS,
        ),
        max_size=3,
    ).map(tuple),
)
PROVISIONALS = st.builds(
    Provisional,
    budget=FLOATS,
    tests_affected=SMALL,
    tests_run=SMALL,
    tests_left=SMALL,
    seconds_left=FLOATS,
    ways_left=SMALL,
    undecided=st.dictionaries(TEXTS, LINES, max_size=3),
)
FINAL_RESULTS = st.builds(
    JobResult,
    project=st.just("demo"),
    branch=TEXTS,
    commit=TEXTS,
    subject=TEXTS,
    committed_at=MOMENTS,
    base=st.none() | TEXTS,
    select=st.sampled_from(Select),
    kind=st.sampled_from(Kind),
    tests=st.builds(TestCounts, run=SMALL, passed=SMALL, failed=SMALL, carried=SMALL),
    measurement=st.builds(
        Measurement,
        files=st.lists(FILES, max_size=4, unique_by=lambda file: file.path).map(
            lambda files: tuple(sorted(files, key=lambda file: file.path))
        ),
    ),
    before=st.none() | st.builds(Before, total=COUNTS, vendored=COUNTS),
    faults=st.lists(FAULTS, max_size=3).map(tuple),
    outcomes=st.lists(OUTCOMES, max_size=4).map(tuple),
    carried=st.dictionaries(TEXTS, SMALL, max_size=3),
    complete=st.booleans(),
    snapshot=st.just(Path("/job/coverage")),
    recorder=TEXTS,
    environment=TEXTS,
    notes=st.lists(TEXTS, max_size=3).map(tuple),
    patch=st.none() | PATCHES,
    seconds=st.dictionaries(TEXTS, FLOATS, max_size=3),
    cpu_seconds=FLOATS,
)
RESULTS = st.tuples(FINAL_RESULTS, st.none() | PROVISIONALS).map(
    lambda pair: replace(
        pair[0], complete=pair[0].complete and pair[1] is None, provisional=pair[1]
    )
)
