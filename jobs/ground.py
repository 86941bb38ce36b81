"""The ground a job stands on: the commit checked out, its tests found, its environment ready."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from jobs.diff import TreeDiff
from jobs.environment import Prepared, prepare_environment
from jobs.project import ProjectSettings
from jobs.request import Places, Request
from jobs.runner import Surroundings
from jobs.statements import CONFIG_FILES, coverage_settings_text, settings_key
from jobs.suite import Layout, TestModule, find_test_modules, read_layout
from jobs.worktree import Worktree
from venv_builder.progress import Stages


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The checked-out commit: its files, its tests, its environment, its difference.

    `blobs` maps every path to its blob; `key` stands for all that decides how files are parsed.
    """

    blobs: Mapping[str, str]
    layout: Layout
    modules: tuple[TestModule, ...]
    prepared: Prepared
    around: Surroundings
    diff: TreeDiff
    key: str


def set_up(request: Request, stages: Stages, held: ExitStack) -> Ground:
    """Check the commit out and get its environment, which `held` keeps until it is closed."""
    settings, places, mirror = request.settings, request.places, request.mirror
    sha = request.commit.sha
    worktree = Worktree(mirror=mirror, root=places.tree)
    with stages.stage("checkout", f"{sha[:10]} {request.commit.subject}"):
        worktree.check_out(sha)
        blobs = mirror.blobs(sha)
        diff = mirror.diff(request.base.commit, sha) if request.base else TreeDiff()
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
    variables = {**prepared.declared.set_env, **settings.set_env}
    layout = read_layout(places.tree, settings, variables)
    modules = find_test_modules(blobs, layout, lambda path: _has_load_tests(places.tree / path))
    around = _surroundings(settings, places, prepared, variables, blobs)
    return Ground(
        blobs=blobs,
        layout=layout,
        modules=modules,
        prepared=prepared,
        around=around,
        diff=diff,
        key=_parse_key(request, prepared, around),
    )


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


def _parse_key(request: Request, prepared: Prepared, around: Surroundings) -> str:
    sha = request.commit.sha
    texts = {name: request.mirror.read(sha, name) for name in CONFIG_FILES}
    present = {name: text for name, text in texts.items() if text is not None}
    version = prepared.environment.distributions.get("coverage", "unknown")
    identity = (*around.source, str(around.branch), str(prepared.interpreter.version), version)
    return settings_key(coverage_settings_text(present), *identity)
