"""The order that a step without a tracker writes for itself, from what its build and clone say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.baselines import KeptBaseline, find_kept
from jobs.ci_variables import Wanted
from jobs.clone import clone_root, inspect_clone
from jobs.order import OrderedCommit, StepOrder
from jobs.project import ProjectSettings
from jobs.repository import Mirror
from jobs.results import Kind, Select
from jobs.workplace import Workplace
from venv_builder.errors import InfrastructureError, UsageError
from venv_builder.progress import Listener, Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a step finds its project: `revision` as typed, in `clone` or at `address`.

    `baselines` is a folder of bundles. What is None is not there.
    """

    wanted: Wanted | None
    clone: Path | None
    address: str | None
    revision: str | None = None
    baselines: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfOrdered:
    """An order, and the snapshot that it rests on."""

    order: StepOrder
    snapshot: Path | None


def write_order(
    workplace: Workplace,
    settings: ProjectSettings,
    sources: Sources,
    folder: Path,
    listener: Listener,
) -> SelfOrdered:
    """Fetch what is wanted and decide what it rests on; the base's snapshot goes below `folder`.

    A change without a kept baseline has the commit that it forks off measured in full first.
    Raises UsageError for what is nowhere, InfrastructureError for what cannot be fetched.
    """
    with workplace.locked(listener):
        mirror = workplace.mirror()
        sha = _fetch(mirror, settings, sources, listener)
        branch, tip = _tip(mirror, settings, sources)
        kind = Kind.BASELINE if mirror.is_ancestor(sha, tip) else Kind.CHANGE
        own = OrderedCommit(sha=sha, kind=kind, select=settings.select)
        base, commits = None, [own]
        if settings.select is not Select.ALL:
            base = _find_base(mirror, settings, sources, sha, folder, listener)
            if base is None:
                commits = _with_fork(mirror, own, tip, listener)
    order = StepOrder(
        run_id=f"step-{sha[:20]}",
        settings=settings,
        branch=branch,
        commits=tuple(commits),
        base=base.base if base else None,
    )
    return SelfOrdered(order=order, snapshot=base.snapshot if base else None)


def _fetch(mirror: Mirror, settings: ProjectSettings, sources: Sources, listener: Listener) -> str:
    """The sha of what is wanted, which the mirror holds then."""
    wanted = sources.wanted
    revision = sources.revision or (wanted.commit if wanted else "HEAD")
    refs = [ref for ref in (wanted and wanted.ref, sources.revision) if ref]
    problem: InfrastructureError | UsageError | None = None
    for address, extra in _addresses(sources, settings, refs):
        try:
            mirror.fetch(address, extra)
        except (InfrastructureError, UsageError) as error:
            problem = error
            continue
        if mirror.has(revision) or _resolves(mirror, revision):
            return mirror.resolve(revision)
    if problem is not None:
        raise problem
    raise UsageError(
        f"{settings.name} has no revision {revision} where this step looked.",
        advice="Check the workspace out at it, or say where git finds it: --git URL",
    )


def _resolves(mirror: Mirror, revision: str) -> bool:
    return mirror.has(f"refs/covtrack/{revision}")


def _addresses(
    sources: Sources, settings: ProjectSettings, refs: Sequence[str]
) -> list[tuple[str, Sequence[str]]]:
    """The clone in the workspace first, which costs nothing; it has no refs of changes."""
    remote = sources.address or settings.git
    places: list[tuple[str, Sequence[str]]] = []
    if sources.clone is not None:
        places.append((str(sources.clone), ()))
    if remote and remote != str(sources.clone):
        places.append((remote, refs))
    return places


def _tip(mirror: Mirror, settings: ProjectSettings, sources: Sources) -> tuple[str, str]:
    branch = sources.wanted.branch if sources.wanted else settings.branch
    if branch is None and sources.clone is not None:
        branch = inspect_clone(sources.clone).branch
    if branch is None:
        branch = mirror.default_branch(sources.address or settings.git)
    tip = mirror.branch_tip(branch)
    if tip is None:
        known = ", ".join(mirror.branches()[:8]) or "none"
        raise UsageError(
            f"{settings.name} has no branch {branch} (known: {known}).",
            advice="Fetch it into the workspace's clone, or name another: --branch",
        )
    return branch, tip


def _find_base(
    mirror: Mirror,
    settings: ProjectSettings,
    sources: Sources,
    sha: str,
    folder: Path,
    listener: Listener,
) -> KeptBaseline | None:
    if sources.baselines is None:
        return None
    target = folder / "baseline"
    found = find_kept(sources.baselines, settings.name, mirror, sha, target, listener)
    if found is None:
        listener(Noted(sentence=f"{sources.baselines} holds no baseline of {settings.name} yet."))
    return found


def _with_fork(
    mirror: Mirror, own: OrderedCommit, tip: str, listener: Listener
) -> list[OrderedCommit]:
    if own.kind is Kind.BASELINE:
        return [own.model_copy(update={"select": Select.ALL})]
    fork = mirror.merge_base(own.sha, tip)
    if fork is None:
        sentence = "The change shares no history with its branch: all its tests run."
        listener(Noted(sentence=sentence))
        return [own]
    sentence = f"No baseline: a full run of {fork[:10]} makes it, then the change runs."
    listener(Noted(sentence=sentence))
    return [OrderedCommit(sha=fork, kind=Kind.BASELINE, select=Select.ALL), own]


def find_clone(start: Path) -> Path | None:
    """The git clone that a workspace is or lies in."""
    return clone_root(start) if start.is_dir() else None
