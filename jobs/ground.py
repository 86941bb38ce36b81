"""The ground a job stands on: the commit checked out, its tests found, its environment ready."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from jobs.diff import TreeDiff
from jobs.environment import Prepared, prepare_environment
from jobs.outlining import OutlinedTree, Shelf, outlines_key
from jobs.project import ProjectSettings
from jobs.request import Places, Request
from jobs.runner import Surroundings
from jobs.snapshot import Circumstances
from jobs.statements import (
    CONFIG_FILES,
    StatementCache,
    coverage_settings_text,
    recording_settings_text,
    settings_key,
)
from jobs.suite import PATTERN, Layout, TestModule, find_test_modules, read_layout
from jobs.worktree import Worktree
from venv_builder.progress import Stages


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The checked-out commit: its files, its tests, its environment, its difference.

    `blobs` maps every path to its blob, `base_blobs` those of the base that `diff` begins at (none
    without a base); `key` stands for all that decides how files are parsed,
    `circumstances` for what tests run under beside the tree. `shelves` keep the outlines, by key,
    for all trees that this one is seen from; `outlined` and `base_outlined` are set where the
    trees are known already.
    """

    blobs: Mapping[str, str]
    base_blobs: Mapping[str, str]
    layout: Layout
    modules: tuple[TestModule, ...]
    prepared: Prepared
    around: Surroundings
    diff: TreeDiff
    key: str
    cache: StatementCache
    env_cpu_seconds: float
    circumstances: Circumstances
    shelves: dict[str, Shelf] = field(default_factory=dict)
    outlined: OutlinedTree | None = None
    base_outlined: OutlinedTree | None = None

    @property
    def top_dirs(self) -> tuple[str, ...]:
        """Folders from which modules may be imported, "" for the root; none is a package."""
        names = ("", self.layout.top_dir, "src", "lib")
        return tuple(name for name in names if f"{name}/__init__.py" not in self.blobs)

    @property
    def outlines_key(self) -> str:
        """The key under which outlines of this interpreter are kept."""
        return outlines_key(self.prepared.interpreter.version)

    @cached_property
    def outlines(self) -> OutlinedTree:
        """The outlines of the commit's files, once they are parsed."""
        return self.outlined or self._outlines_of(self.blobs)

    @cached_property
    def base_outlines(self) -> OutlinedTree:
        """The outlines of the base's files, as far as they are known."""
        return self.base_outlined or self._outlines_of(self.base_blobs)

    def _outlines_of(
        self, blobs: Mapping[str, str], near: OutlinedTree | None = None
    ) -> OutlinedTree:
        key = self.outlines_key
        shelf = self.shelves.setdefault(key, Shelf(self.cache, key))
        return OutlinedTree(shelf, blobs, self.top_dirs, near)

    def based_on(
        self, diff: TreeDiff, blobs: Mapping[str, str], near: OutlinedTree | None = None
    ) -> Ground:
        """The same ground, seen from another base, whose tree is much like the tree `near`."""
        return replace(
            self,
            diff=diff,
            base_blobs=blobs,
            outlined=self.outlines,
            base_outlined=self._outlines_of(blobs, near),
        )

    def is_test_file(self, path: str) -> bool:
        """Whether tests, or what only they use, are in the file."""
        below = f"{self.layout.test_path}/" if self.layout.test_path else ""
        name = path.rpartition("/")[2]
        return path.startswith(below) and (bool(below) or fnmatchcase(name, PATTERN))


def set_up(request: Request, stages: Stages, held: ExitStack) -> Ground:
    """Check the commit out and get its environment, which `held` keeps until it is closed."""
    settings, places, mirror = request.settings, request.places, request.mirror
    sha = request.commit.sha
    worktree = Worktree(mirror=mirror, root=places.tree)
    with stages.stage("checkout", f"{sha[:10]} {request.commit.subject}"):
        worktree.check_out(sha)
        blobs = mirror.blobs(sha)
        base = request.base.commit if request.base else None
        diff = mirror.diff(base, sha) if base else TreeDiff()
        base_blobs = mirror.blobs(base) if base else {}
    begun = cpu_seconds()
    with stages.stage("env"):
        prepared = prepare_environment(
            places.tree,
            blobs,
            settings,
            cache=request.environments,
            held=held,
            kept=places.kept / "declared",
            scratch=places.scratch,
            beside=request.beside,
            version=mirror.describe(sha),
            listener=stages.listener,
        )
        major, minor, _ = prepared.interpreter.version
        worktree.compile(prepared.environment.python, f"cpython-{major}{minor}")
    env_cpu_seconds = cpu_seconds() - begun
    variables = {**prepared.declared.set_env, **settings.set_env}
    layout = read_layout(places.tree, settings, variables)
    modules = find_test_modules(blobs, layout, lambda path: _has_load_tests(places.tree / path))
    around = _surroundings(settings, places, prepared, variables, blobs)
    return Ground(
        blobs=blobs,
        base_blobs=base_blobs,
        layout=layout,
        modules=modules,
        prepared=prepared,
        around=around,
        diff=diff,
        key=_parse_key(request, prepared, around),
        cache=StatementCache(places.kept / "statements.sqlite"),
        env_cpu_seconds=env_cpu_seconds,
        circumstances=_circumstances(request, prepared, around, variables),
    )


def _circumstances(
    request: Request, prepared: Prepared, around: Surroundings, variables: Mapping[str, str]
) -> Circumstances:
    points = sorted(prepared.overlay.path.glob("*.dist-info/entry_points.txt"))
    texts = [path.read_text() for path in points]
    version = prepared.environment.distributions.get("coverage", "unknown")
    settings = recording_settings_text(_config_files(request))
    identity = (str(around.branch), str(prepared.interpreter.version), version)
    return Circumstances(
        recording=_digest("\0".join((settings, *identity))),
        variables=_digest(json.dumps(sorted(variables.items()))),
        entry_points=_digest("\0".join(texts)),
        distributions=dict(prepared.environment.distributions),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def cpu_seconds() -> float:
    """User and system time of this process and of all children it waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + usage.ru_utime + usage.ru_stime


def _has_load_tests(package: Path) -> bool:
    return b"def load_tests" in package.read_bytes()


def _surroundings(
    settings: ProjectSettings,
    places: Places,
    prepared: Prepared,
    variables: Mapping[str, str],
    blobs: Mapping[str, str],
) -> Surroundings:
    declared, overlay = prepared.declared.source, prepared.overlay
    source = settings.source or ((declared,) if declared else _packages(blobs))
    return Surroundings(
        root=places.tree,
        python=prepared.environment.python,
        variables={
            "PYTHONHASHSEED": "0",
            "COVERAGE_CORE": "ctrace",
            **variables,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join((str(overlay.path), str(places.tree))),
        },
        path=(overlay.bin, prepared.environment.python.parent),
        memory=settings.memory,
        writable=(*settings.writable, *_shared_temporaries(places.tree)),
        source=source,
        branch=settings.branch_coverage,
        recorder=settings.recorder,
    )


def _shared_temporaries(tree: Path) -> tuple[str, ...]:
    """The machine's temporary folders, which tests name outright, unless our state lies there."""
    return tuple(name for name in ("/tmp", "/var/tmp") if not tree.is_relative_to(name))  # noqa: S108


def _packages(blobs: Iterable[str]) -> tuple[str, ...]:
    """The tree's top-level packages, tests and docs left out; the whole tree if there is none."""
    tops = {path.partition("/")[0] for path in blobs if path.count("/") == 1}
    named = tuple(sorted(top for top in tops if f"{top}/__init__.py" in set(blobs)))
    return tuple(name for name in named if name not in ("tests", "test", "doc", "docs")) or (".",)


def _config_files(request: Request) -> dict[str, str]:
    """The texts of the files that coverage.py's settings may be in."""
    sha = request.commit.sha
    texts = {name: request.mirror.read(sha, name) for name in CONFIG_FILES}
    return {name: text for name, text in texts.items() if text is not None}


def _parse_key(request: Request, prepared: Prepared, around: Surroundings) -> str:
    present = _config_files(request)
    version = prepared.environment.distributions.get("coverage", "unknown")
    identity = (*around.source, str(around.branch), str(prepared.interpreter.version), version)
    return settings_key(coverage_settings_text(present), *identity)
