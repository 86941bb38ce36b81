"""What changed between two commits, as values: files and, per file, a map of line numbers.

Pure: parses the output of `git diff --raw -p -U0 -z -M` and maps lines; starts nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from venv_builder.errors import DataError

HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
FILE_HEADER = b"diff --git "
ZERO = "0" * 40
DIFFED = (
    *("--raw", "-p", "-U0", "-z", "-M", "--no-abbrev", "--no-color", "--no-ext-diff"),
    *("--no-textconv", "--submodule=short", "--inter-hunk-context=0"),
)
RAW = ("-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--always")
# No line of a patch begins like that.
LOGGED = (*DIFFED, "--format=format:%x01%H%x01")
LOG_HEADER = re.compile(rb"^\0?\x01[0-9a-f]{40,64}\x01\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """`old_count` lines from `old_start` became `new_count` lines from `new_start` (1-based).

    A pure insertion has `old_count` 0 and stands after old line `old_start`; a pure deletion has
    `new_count` 0 and stands after new line `new_start` (git's own convention).
    """

    old_start: int
    old_count: int
    new_start: int
    new_count: int

    @property
    def first_after(self) -> int:
        """The first old line behind the hunk."""
        return self.old_start + self.old_count if self.old_count else self.old_start + 1

    @property
    def shift_after(self) -> int:
        """What to add to an old line behind the hunk."""
        new_after = self.new_start + self.new_count if self.new_count else self.new_start + 1
        return new_after - self.first_after


@dataclass(frozen=True)
class LineMap:
    """Maps line numbers of a file's old version to its new one through the hunks of a diff."""

    hunks: tuple[Hunk, ...] = ()

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(h.old_start if h.old_count else h.old_start + 1 for h in self.hunks)

    def map_line(self, line: int) -> int | None:
        """The new number of old `line`, None where the diff deleted or replaced it."""
        index = bisect_right(self._starts, line) - 1
        if index < 0:
            return line
        hunk = self.hunks[index]
        if hunk.old_count and line < hunk.old_start + hunk.old_count:
            return None
        return line + hunk.shift_after

    def map_lines(self, lines: Iterable[int]) -> set[int]:
        """The new numbers of all lines that survive."""
        mapped = (self.map_line(line) for line in lines)
        return {line for line in mapped if line is not None}

    @cached_property
    def inverse(self) -> LineMap:
        """The map from the new version to the old one."""
        return LineMap(
            tuple(
                Hunk(
                    old_start=hunk.new_start,
                    old_count=hunk.new_count,
                    new_start=hunk.old_start,
                    new_count=hunk.old_count,
                )
                for hunk in self.hunks
            )
        )

    @cached_property
    def added(self) -> frozenset[int]:
        """New line numbers that the diff added or replaced."""
        return frozenset(
            line for h in self.hunks for line in range(h.new_start, h.new_start + h.new_count)
        )

    @cached_property
    def cuts(self) -> frozenset[int]:
        """New line numbers right after which the diff deleted old lines."""
        return frozenset(h.new_start for h in self.hunks if not h.new_count)

    def touches(self, first: int, last: int) -> bool:
        """Whether the diff changed anything within the new lines first..last."""
        return any(
            _overlaps(hunk, first, last)
            for hunk in self.hunks
            if hunk.new_start <= last and hunk.new_start + hunk.new_count >= first
        )


def _overlaps(hunk: Hunk, first: int, last: int) -> bool:
    if hunk.new_count:
        return hunk.new_start <= last and hunk.new_start + hunk.new_count > first
    return first <= hunk.new_start < last


IDENTITY = LineMap()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file's change; `old` is None for a new file, `new` for a deleted one.

    A rename has both, with different names. `lines` is None for what git calls binary,
    and where a file became a link or the other way round.
    """

    old: str | None
    new: str | None
    old_blob: str | None
    new_blob: str | None
    lines: LineMap | None = IDENTITY

    @property
    def renamed(self) -> bool:
        """Whether the file has another name now."""
        return self.old is not None and self.new is not None and self.old != self.new


@dataclass(frozen=True)
class TreeDiff:
    """All file changes from one commit to another."""

    changes: tuple[FileChange, ...] = ()

    @cached_property
    def by_old(self) -> Mapping[str, FileChange]:
        """Changes of files that the old commit has, by their old path."""
        return {change.old: change for change in self.changes if change.old is not None}

    @cached_property
    def by_new(self) -> Mapping[str, FileChange]:
        """Changes of files that the new commit has, by their new path."""
        return {change.new: change for change in self.changes if change.new is not None}

    @property
    def gone(self) -> frozenset[str]:
        """Paths of the old commit that the new one does not have."""
        return frozenset(self.by_old) - frozenset(self.by_new)


def parse_diff(output: bytes) -> TreeDiff:
    """Parse `git diff --raw -p -U0 -z -M --no-abbrev`; raises DataError on anything else."""
    raw, separator, patch = output.partition(b"\0\0")
    if not separator and FILE_HEADER in output:
        raise DataError("git diff printed no raw part.")
    try:
        records = _split_raw(raw + b"\0" if raw else b"")
    except (ValueError, IndexError, StopIteration) as error:
        raise DataError("git diff printed a raw part that is no raw part.") from error
    bodies = _split_patch(patch)
    # A file that became a link, or the other way round, has two patches: deleted, then new.
    patches = [2 if status == "T" else 1 for *_, status in records]
    if sum(patches) != len(bodies):
        raise DataError(
            f"git diff named {len(records)} files but printed patches of {len(bodies)}."
        )
    rest = iter(bodies)
    return TreeDiff(
        tuple(
            FileChange(old=old, new=new, old_blob=a, new_blob=b, lines=_join(rest, count))
            for (old, new, a, b, _), count in zip(records, patches, strict=True)
        )
    )


def parse_log(output: bytes) -> tuple[TreeDiff, ...]:
    """Parse `git log` with the options LOGGED, one diff a commit; DataError on anything else."""
    return tuple(parse_diff(part.strip(b"\0\n")) for part in LOG_HEADER.split(output)[1:])


@dataclass(frozen=True, slots=True)
class RawChange:
    """How a path differs: git's letter (A, D, M or T), and the new mode and blob (zeros for D)."""

    status: str
    mode: str
    blob: str


RawChanges = Mapping[str, RawChange]


def parse_raw(output: bytes, count: int) -> tuple[RawChanges, ...]:
    """Parse `git diff-tree --stdin` of `count` pairs with the options RAW, in their order."""
    found: list[dict[str, RawChange]] = []
    fields = iter(output.decode("utf-8", "surrogateescape").split("\0"))
    for field in fields:
        if field.startswith(":"):
            _, mode, _, blob, status = field.split(" ")
            found[-1][next(fields)] = RawChange(status[0], mode, blob)
        elif field:
            found.append({})
    if len(found) != count:
        raise DataError(f"git diff-tree compared {len(found)} pairs, not {count}.")
    return tuple(found)


_Record = tuple[str | None, str | None, str | None, str | None, str]


def _join(bodies: Iterator[LineMap | None], count: int) -> LineMap | None:
    """The next `count` bodies as one: no line of a file survives a change of its type."""
    first, *others = islice(bodies, count)
    return None if others else first


def _split_raw(raw: bytes) -> list[_Record]:
    fields = iter(raw.decode("utf-8", "surrogateescape").split("\0"))
    records: list[_Record] = []
    for field in fields:
        if not field:
            continue
        _, _, old_blob, new_blob, status = field.lstrip(":").split(" ")
        first = next(fields)
        second = next(fields) if status[0] in "RC" else first
        records.append(
            (
                None if status[0] in "AC" else first,
                None if status[0] == "D" else second,
                None if old_blob == ZERO or status[0] == "C" else old_blob,
                None if new_blob == ZERO else new_blob,
                status[0],
            )
        )
    return records


def _split_patch(patch: bytes) -> list[LineMap | None]:
    bodies: list[LineMap | None] = []
    hunks: list[Hunk] = []
    binary = False
    for line in [*patch.split(b"\n"), FILE_HEADER]:
        if line.startswith(FILE_HEADER):
            bodies.append(None if binary else LineMap(tuple(hunks)))
            hunks, binary = [], False
        elif line.startswith(b"Binary files "):
            binary = True
        elif match := HUNK.match(line):
            hunks.append(_parse_hunk(match))
    return bodies[1:]


def _parse_hunk(match: re.Match[bytes]) -> Hunk:
    old_start, old_count, new_start, new_count = (
        1 if group is None else int(group) for group in match.groups()
    )
    return Hunk(old_start=old_start, old_count=old_count, new_start=new_start, new_count=new_count)
