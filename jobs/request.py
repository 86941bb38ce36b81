"""What a job is asked: frozen values that are the same in-process, in a build step or by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.project import ProjectSettings
from jobs.repository import Commit, Mirror
from jobs.results import Before, Kind, Select
from venv_builder import EnvironmentCache, Need


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a job builds on: a measured commit and its snapshot.

    Mostly an ancestor; any other has the same tree, or is an earlier patch set. `before` are the
    counts to compare with, those of the commit `compared`, the base itself where that is None.
    """

    commit: str
    snapshot: Path
    before: Before | None
    compared: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Folders of one project that outlive a job, and the job's own scratch folder."""

    tree: Path
    kept: Path
    stestr: Path
    scratch: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that a job is a function of; `beside` are the other projects' needs.

    `append` is the way of 2013, for comparison: what changed test files run is added to the
    base's data, whose lines stay where they were. `only`, if set, are the known tests that run of
    those selected. `budget` is seconds of known tests, by their durations, after which the result
    is provisional; None is whole. `other` is a base from which less may have to run.
    """

    settings: ProjectSettings
    mirror: Mirror
    commit: Commit
    branch: str
    kind: Kind
    select: Select
    base: Base | None
    places: Places
    environments: EnvironmentCache
    beside: tuple[Need, ...] = ()
    notes: tuple[str, ...] = ()
    append: bool = False
    only: frozenset[str] | None = None
    budget: float | None = None
    other: Base | None = None
