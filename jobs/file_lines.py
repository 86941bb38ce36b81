"""Which lines of a measured file ran, from what is stored of it and what it consists of. Pure.

A stored run keeps the statements that did not run; those that ran are all others of the file, as
coverage.py parsed it for that run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.results import Counts, FileMeasure
from jobs.statements import Parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLines:
    """One file: `ran` maps each statement's first line to whether it ran.

    `spans` maps the first to the last line of statements that take several; `touched` are the
    statements that the commit adds or modifies, None where that is unknown.
    """

    path: str
    ran: Mapping[int, bool]
    spans: Mapping[int, int]
    touched: frozenset[int] | None = None

    @property
    def counts(self) -> Counts:
        """All statements of the file."""
        return _count(self.ran)

    @property
    def touched_counts(self) -> Counts | None:
        """The touched statements alone; None where these are unknown."""
        if self.touched is None:
            return None
        return _count({line: ran for line, ran in self.ran.items() if line in self.touched})

    @property
    def lines(self) -> Mapping[int, bool]:
        """Every line of every statement, in order, and whether its statement ran."""
        found = {
            line: ran
            for first, ran in self.ran.items()
            for line in range(first, self.spans.get(first, first) + 1)
        }
        return dict(sorted((found | dict(self.ran)).items()))


def _count(ran: Mapping[int, bool]) -> Counts:
    return Counts(statements=len(ran), covered=sum(ran.values()))


def find_lines(
    measured: FileMeasure, parsed: Parsed, touched: frozenset[int] | None
) -> FileLines | None:
    """The file's lines; None where `parsed` is not what the counts were made from."""
    missing = frozenset(measured.missing)
    if len(parsed.statements) != measured.counts.statements or missing - parsed.statements:
        return None
    return FileLines(
        path=measured.path,
        ran={line: line not in missing for line in sorted(parsed.statements)},
        spans=dict(parsed.spans),
        touched=touched,
    )


def join_lines(one: FileLines, other: FileLines) -> FileLines:
    """The same file as two projects measured it: what ran for either of them ran."""
    known = one.touched is not None and other.touched is not None
    return FileLines(
        path=one.path,
        ran={
            line: one.ran.get(line, False) or other.ran.get(line, False)
            for line in sorted({*one.ran, *other.ran})
        },
        spans={**one.spans, **other.spans},
        touched=(one.touched or frozenset()) | (other.touched or frozenset()) if known else None,
    )
