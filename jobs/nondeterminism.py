"""Lines that run or not without a change of the source: how they are named, and left out. Pure.

A line is named by its function, its statement's text and which of that text it is there: so the
name stays when lines move, and is lost when the statement itself is changed.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from jobs.patch import owners_of
from jobs.results import Before, FileMeasure, JobResult, Measurement, PatchCoverage, UncoveredRange
from jobs.statements import Parsed

Lines = Mapping[str, Collection[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineName:
    """A statement of `path`, the `ordinal`th (from 0) of this text in `function` ("": none)."""

    path: str
    function: str
    text: str
    ordinal: int


def name_lines(path: str, source: str, parsed: Parsed) -> dict[int, LineName]:
    """The names of all statements of a file, by first line."""
    lines = source.split("\n")
    owners = owners_of(parsed)
    seen: Counter[tuple[str, str]] = Counter()
    names = {}
    for first in sorted(parsed.statements):
        last = parsed.spans.get(first, first)
        text = " ".join(" ".join(lines[first - 1 : last]).split())
        function = owners[first].name if first in owners else ""
        names[first] = LineName(
            path=path, function=function, text=text, ordinal=seen[function, text]
        )
        seen[function, text] += 1
    return names


def means_the_same(old: str, new: str) -> bool:
    """Whether two sources differ in comments and layout alone, for all that is known here.

    False for what this interpreter cannot parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.dump(ast.parse(old)) == ast.dump(ast.parse(new))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def without_lines(measurement: Measurement, lines: Lines) -> Measurement:
    """The measurement as if these statements (first lines, by path) were not there."""
    return Measurement(
        files=tuple(
            _without(file, frozenset(lines.get(file.path, ()))) for file in measurement.files
        )
    )


def _without(file: FileMeasure, lines: frozenset[int]) -> FileMeasure:
    if not lines:
        return file
    missing = tuple(line for line in file.missing if line not in lines)
    uncovered = len(file.missing) - len(missing)
    counts = replace(
        file.counts,
        statements=file.counts.statements - len(lines),
        covered=file.counts.covered - (len(lines) - uncovered),
    )
    return replace(file, counts=counts, missing=missing)


def leave_out(
    result: JobResult, lines: Lines, base: Measurement | None, base_lines: Lines
) -> JobResult:
    """A result as if its nondeterministic statements were not there, now and before.

    `lines` are those of the result's commit, `base_lines` those of its base's, whose measurement
    is None where it is unknown; then what was before is unknown too. A patch keeps those of its
    statements that ran.
    """
    if not any(lines.values()) and not any(base_lines.values()):
        return result
    before = None
    if result.before is not None and base is not None:
        settled = without_lines(base, base_lines)
        before = Before(total=settled.total, vendored=settled.vendored)
    return replace(
        result,
        measurement=without_lines(result.measurement, lines),
        before=before,
        patch=None if result.patch is None else _leave_out_of_patch(result, result.patch, lines),
    )


def _leave_out_of_patch(result: JobResult, patch: PatchCoverage, lines: Lines) -> PatchCoverage:
    missing = {file.path: file.missing for file in result.measurement.files}
    kept: list[UncoveredRange] = []
    dropped = 0
    for part in patch.uncovered:
        inside = [n for n in missing.get(part.path, ()) if part.first <= n <= part.last]
        wavering = set(inside).intersection(lines.get(part.path, ()))
        dropped += len(wavering)
        left = [line for line in inside if line not in wavering]
        if not wavering:
            kept.append(part)
        elif left:
            last = part.last if inside[-1] == left[-1] else left[-1]
            kept.append(replace(part, first=left[0], last=last))
    return replace(patch, statements=patch.statements - dropped, uncovered=tuple(kept))
