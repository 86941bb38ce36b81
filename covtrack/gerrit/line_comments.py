"""Which uncovered lines of a change are commented on, and in which words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from covtrack.gerrit.policy import NOT_ITS_DOING
from covtrack.grids import clean
from jobs.results import JobResult, UncoveredRange

# Gerrit takes 5,000 comments a change.
MOST_COMMENTS = 4_500
# Gerrit cuts what is beyond the end of a line.
LINE_END = 10_000
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierComment:
    """A comment of ours on the change, on whatever patch set."""

    path: str
    line: int | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineComment:
    """A comment on the lines first..last, 1-based."""

    first: int
    last: int
    message: str

    def body(self) -> dict[str, Any]:
        """Gerrit's CommentInput."""
        extent = {
            "start_line": self.first,
            "start_character": 0,
            "end_line": self.last,
            "end_character": LINE_END,
        }
        place = {"line": self.last} if self.first == self.last else {"range": extent}
        return {**place, "message": self.message, "unresolved": False}


def choose_comments(
    result: JobResult,
    touched: Mapping[str, frozenset[int]] | None,
    earlier: Sequence[EarlierComment],
    most: int,
) -> tuple[dict[str, tuple[LineComment, ...]], int]:
    """Comments by path, at most `most`, and how many ranges were left out for their number.

    `touched` are the 1-based lines that the change adds or modifies, by path; None is unknown,
    and then no line is commented on. What one of the `earlier` comments says is not said again.
    """
    patch = result.patch
    if patch is None or touched is None or may_hide_coverage(result):
        return {}, 0
    found = [
        (part.path, LineComment(first=first, last=last, message=_comment(part)))
        for part in patch.uncovered
        for first, last in _clip(part, touched.get(part.path, frozenset()))
    ]
    found = _without_known(found, earlier)
    room = min(most, max(0, MOST_COMMENTS - len(earlier)))
    found.sort(key=lambda item: (item[1].first - item[1].last, item[0], item[1].first))
    kept: dict[str, tuple[LineComment, ...]] = {}
    for path, comment in sorted(found[:room], key=lambda item: (item[0], item[1].first)):
        kept[path] = (*kept.get(path, ()), comment)
    return kept, max(0, len(found) - room)


def may_hide_coverage(result: JobResult) -> bool:
    """Whether lines may lack coverage for reasons that are not the change's."""
    return not result.complete or any(fault.kind in NOT_ITS_DOING for fault in result.faults)


def _without_known(
    found: list[tuple[str, LineComment]], earlier: Sequence[EarlierComment]
) -> list[tuple[str, LineComment]]:
    """Those that were not said already; each earlier comment stands for one with its words."""
    known = Counter((one.path, one.message) for one in earlier)
    new = []
    for path, comment in found:
        if known[path, comment.message] > 0:
            known[path, comment.message] -= 1
        else:
            new.append((path, comment))
    return new


def _clip(part: UncoveredRange, touched: frozenset[int]) -> list[tuple[int, int]]:
    """The runs of touched lines of a range; none where the change touches none of it."""
    runs: list[tuple[int, int]] = []
    for line in sorted(line for line in touched if part.first <= line <= part.last):
        if runs and runs[-1][1] == line - 1:
            runs[-1] = (runs[-1][0], line)
        else:
            runs.append((line, line))
    return runs


def _comment(part: UncoveredRange) -> str:
    """The words on a range; without line numbers, so that they stay when lines move."""
    if part.nearest_test is None:
        return "No test runs these lines, nor any other of this file."
    return f"No test runs these lines. The nearest one: {clean(part.nearest_test)[:LONGEST_NAME]}"
