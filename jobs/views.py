"""One tree seen from many commits: what differs, and where lines go, worked out once for all.

A commit that differs from another in a few files sees the tree as that one does, but for these
files. What git would follow as a rename is asked of git, of all files that come or go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.carrying import plan_moves
from jobs.diff import FileChange, RawChanges, TreeDiff
from jobs.ground import Ground
from jobs.merge import FileMove
from jobs.parsing import ParsedTree
from jobs.repository import Mirror

MOST_PATHS = 5_000  # a command line has an end


class Views:
    """The ground of a tree (its commit is `sha`) as seen from other commits."""

    def __init__(self, mirror: Mirror, ground: Ground, sha: str, parsed: ParsedTree) -> None:
        self.mirror = mirror
        self.ground = ground
        self.sha = sha
        self.parsed = parsed
        self._whole: dict[str, Ground] = {}
        self._raw: dict[tuple[str, str], RawChanges] = {}
        self._moves: dict[tuple[str | None, ...], FileMove] = {}

    def prepare(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Ask git about all pairs (what is seen from, what it differs little from) at once."""
        asked = {(near, sha) for sha, near in pairs} | {(near, self.sha) for _, near in pairs}
        self._raw |= self.mirror.raw_changes(sorted(asked - self._raw.keys()))

    def whole(self, sha: str) -> Ground:
        """The ground seen from a commit, by git's diff of all; asked for only once."""
        if sha not in self._whole:
            diff = self.mirror.diff(sha, self.sha)
            self._whole[sha] = self.ground.based_on(diff, self.mirror.blobs(sha))
        return self._whole[sha]

    def beside(self, sha: str, near: str) -> Ground:
        """The ground seen from a commit that differs in few files from `near`."""
        if (near, sha) not in self._raw:
            self.prepare([(sha, near)])
        like = self.whole(near)
        own = self._raw[near, sha]
        blobs = {path: blob for path, blob in like.base_blobs.items() if path not in own}
        blobs |= {path: raw.blob for path, raw in own.items() if raw.mode.startswith("100")}
        return self.ground.based_on(self._diff(sha, near, own), blobs, like.base_outlines)

    def moves(self, seen: Ground) -> Mapping[str, FileMove]:
        """Where the rows of changed files go; the same change of a file moves them alike."""
        new = TreeDiff(tuple(c for c in seen.diff.changes if _key(c) not in self._moves))
        for change in new.changes:
            for _, move in plan_moves(seen, self.parsed, [change]):
                self._moves[_key(change)] = move
        return {
            change.old: self._moves[_key(change)]
            for change in seen.diff.changes
            if change.old is not None and _key(change) in self._moves
        }

    def _diff(self, sha: str, near: str, own: RawChanges) -> TreeDiff:
        """What git would say of the commit and the tree."""
        theirs = self._raw[near, self.sha]
        gone = {p for p, raw in theirs.items() if raw.status == "D" and not _is(own, p, "D")}
        gone |= {p for p, raw in own.items() if raw.status == "A" and p not in theirs}
        come = {p for p, raw in theirs.items() if raw.status == "A" and not _is(own, p, "A")}
        come |= {p for p, raw in own.items() if raw.status == "D" and not _is(theirs, p, "D")}
        before = self.whole(near).diff
        asked = {p for p in own if p not in theirs or own[p] != theirs[p]}
        renames = gone or any(raw.status == "D" for raw in theirs.values())
        if renames:
            asked |= gone | come
        if len(asked) > MOST_PATHS:
            return self.mirror.diff(sha, self.sha)
        kept = [
            change
            for change in before.changes
            if change.old not in own
            and change.new not in own
            and (change.old == change.new or not renames)
        ]
        more = self.mirror.diff(sha, self.sha, sorted(asked)).changes if asked else ()
        return TreeDiff(tuple(sorted((*kept, *more), key=_path)))


def _is(raw: RawChanges, path: str, status: str) -> bool:
    return path in raw and raw[path].status == status


def _path(change: FileChange) -> str:
    return change.new or change.old or ""


def _key(change: FileChange) -> tuple[str | None, ...]:
    return change.old, change.old_blob, change.new, change.new_blob
