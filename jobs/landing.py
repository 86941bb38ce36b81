"""Merges open changes onto a branch's tip, one after another, and tells which cannot land.

Objects alone are written to the mirror: no work tree, no ref, nothing pushed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.repository import Commit, MergedTree, Mirror
from venv_builder.errors import UsageError


class State(StrEnum):
    """Whether a change is part of the merged tree; the values are part of the contract."""

    INCLUDED = "included"
    CONFLICT = "conflict"
    MERGED = "merged"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """One change, as it was named, and what became of it.

    `conflicts_with` holds the branch's name, or refs of changes named before it; `paths` the
    files in conflict. MERGED is also a change of which the branch has everything already;
    INCOMPLETE is one whose own tests did not all run: what it takes away is unknown.
    """

    ref: str
    commit: Commit
    state: State
    conflicts_with: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """The branch with all changes that can land: `merged` is the tip where none can."""

    branch: str
    tip: Commit
    merged: Commit
    changes: tuple[Landed, ...]

    @property
    def included(self) -> tuple[Landed, ...]:
        """The changes that the merged tree holds."""
        return tuple(change for change in self.changes if change.state is State.INCLUDED)


def land(
    mirror: Mirror, branch: str, tip: Commit, refs: Sequence[str], incomplete: Collection[str] = ()
) -> Landing:
    """Merge the changes in their order; those that conflict or are `incomplete` are left out.

    A commit that is named twice counts once. UsageError for unknown refs and for histories that
    have nothing in common with the branch's.
    """
    named: dict[str, str] = {}
    for ref in refs:
        named.setdefault(mirror.resolve(ref), ref)
    for sha, ref in named.items():
        if mirror.merge_base(sha, tip.sha) is None:
            raise UsageError(
                f"{ref} shares no history with {branch}: it cannot be merged.",
                advice="Name changes of this branch; a shallow clone may lack the history.",
            )
    head = tip
    landed: list[Landed] = []
    alone = mirror.merges([(tip.sha, sha) for sha in named])
    for (sha, ref), merged in zip(named.items(), alone, strict=True):
        commit = mirror.commit(sha)
        if sha in incomplete:
            landed.append(Landed(ref=ref, commit=commit, state=State.INCOMPLETE))
            continue
        change, head = _land_one(mirror, branch, tip, head, commit, ref, landed, merged)
        landed.append(change)
    merged_all = head if head == tip else mirror.commit(head.sha)
    return Landing(branch=branch, tip=tip, merged=merged_all, changes=tuple(landed))


def _land_one(
    mirror: Mirror,
    branch: str,
    tip: Commit,
    head: Commit,
    commit: Commit,
    ref: str,
    before: Sequence[Landed],
    alone: MergedTree,
) -> tuple[Landed, Commit]:
    merged = mirror.merge(head.sha, commit.sha) if head != tip else alone
    if alone.tree == tip.tree:
        return Landed(ref=ref, commit=commit, state=State.MERGED), head
    if alone.conflicts or merged.conflicts:
        paths = alone.conflicts or merged.conflicts
        rivals = (branch,) if alone.conflicts else _rivals(mirror, tip, commit, paths, before)
        change = Landed(
            ref=ref, commit=commit, state=State.CONFLICT, conflicts_with=rivals, paths=paths
        )
        return change, head
    sha = mirror.commit_merge(merged.tree, head.sha, commit.sha)
    parents = (head.sha, commit.sha)
    landed = replace(commit, sha=sha, tree=merged.tree, parents=parents)
    return Landed(ref=ref, commit=commit, state=State.INCLUDED), landed


def _rivals(
    mirror: Mirror, tip: Commit, commit: Commit, paths: Sequence[str], before: Sequence[Landed]
) -> tuple[str, ...]:
    """Refs of the changes that one conflicts with; else of those that touch the same files."""
    included = [change for change in before if change.state is State.INCLUDED]
    found = [c.ref for c in included if mirror.merge(c.commit.sha, commit.sha).conflicts]
    if not found:
        for change in included:
            fork = mirror.merge_base(tip.sha, change.commit.sha) or tip.sha
            if set(paths) & set(mirror.changed_names(fork, change.commit.sha)):
                found.append(change.ref)
    return tuple(found)
