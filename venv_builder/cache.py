"""The cache of environments: found by key, built once, verified at each use, mended by a swap.

`envs/KEY` links to `generations/KEY.N`, which never changes once published. A build happens in
`tmp/` under the lock `locks/KEY`, and is renamed; a kill at any moment leaves only litter that
the next build removes. A live environment is never written to: mending publishes generation N+1
and retires N, which goes when no job holds it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from venv_builder.audit import Damage, DamageKind, compare_files, scan_files
from venv_builder.construction import Plan, build_generation
from venv_builder.errors import BuildError, UsageError
from venv_builder.files import link_whole, make_readonly, remove_folder
from venv_builder.interpreters import Interpreter, start_interpreter
from venv_builder.keys import environment_key
from venv_builder.manifest import Manifest, read_manifest
from venv_builder.progress import Listener, Noted, Stages, ignore
from venv_builder.resolution import Resolver
from venv_builder.sharing import Group, Need, agree
from venv_builder.uv_tool import Uv, find_uv

_KEPT_IN_QUARANTINE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A published environment: key, real folder of the venv, its python, what it holds.

    `distributions` maps names as published to versions. `projects` are those that share it,
    `built` tells whether this call built it, `notes` are whole sentences for the user.
    """

    key: str
    path: Path
    python: Path
    distributions: Mapping[str, str]
    projects: tuple[str, ...]
    built: bool = False
    notes: tuple[str, ...] = ()


class EnvironmentCache:
    """All environments below `root`; `uv_cache` is uv's own cache (None for its default)."""

    def __init__(self, root: Path, *, uv_cache: Path | None = None) -> None:
        self.root = root.resolve()
        self.uv_cache = uv_cache

    @property
    def constraints_folder(self) -> Path:
        """Where fetched constraint addresses are kept: `read_declarations(cache=...)`."""
        return self.root / "constraints"

    @cached_property
    def uv(self) -> Uv:
        """The uv program, looked for at its first use."""
        return find_uv(self.uv_cache)

    @cached_property
    def resolver(self) -> Resolver:
        """The store of locks."""
        return Resolver(folder=self.root / "resolutions", uv=self.uv, version=self.uv.version)

    def obtain(
        self,
        need: Need,
        *,
        beside: Sequence[Need] = (),
        interpreter: Interpreter,
        listener: Listener = ignore,
    ) -> Environment:
        """The environment of `need`, shared with those of `beside` that resolve with it.

        Built, or rebuilt where it is damaged, if need be. Raises BuildError if it cannot be.
        """
        if not interpreter.identity:
            interpreter = start_interpreter(interpreter.path)
        stages = Stages(listener)
        with stages.stage("resolve", need.project):
            group = agree(
                need,
                beside,
                interpreter=interpreter,
                resolver=self.resolver,
                folder=self.root / "groups",
            )
        key = environment_key(group.lock.lines, interpreter=interpreter)
        plan = Plan(
            key=key, lock=group.lock.text, projects=group.projects, interpreter=interpreter
        )
        return self._provide(plan, listener, notes=_group_notes(group))

    def verify(self, key: str | Environment, *, full: bool = False) -> tuple[Damage, ...]:
        """What of a published environment is hurt: by size and presence, by sha256 if `full`.

        Raises UsageError for a key that is not in the cache.
        """
        generation = (
            key.path.parent if isinstance(key, Environment) else self._known_generation(key)
        )
        return _examine(generation, read_manifest(generation), full=full)

    def repair(self, key: str, *, listener: Listener = ignore) -> Environment:
        """Verify fully; where anything is hurt, publish a new generation in its place.

        Raises UsageError for an unknown key, BuildError for one whose manifest is lost.
        """
        generation = self._known_generation(key)
        manifest = read_manifest(generation)
        if manifest is None:
            raise BuildError(
                f"The manifest of environment {key} is lost.",
                advice="Build it again by `venv-builder build`; the damage is found there.",
            )
        plan = Plan(
            key=key,
            lock=manifest.lock,
            projects=manifest.projects,
            interpreter=start_interpreter(Path(manifest.python)),
        )
        return self._provide(plan, listener, full=True)

    def environments(self) -> tuple[Environment, ...]:
        """All published environments whose manifest is whole, by key."""
        links = sorted((self.root / "envs").glob("[!.]*"))
        generations = [link.resolve() for link in links]
        read = [(one, read_manifest(one)) for one in generations]
        return tuple(_environment(one, manifest) for one, manifest in read if manifest)

    @contextmanager
    def hold(self, environment: Environment) -> Iterator[Environment]:
        """Keep the environment while the block runs: nobody removes it meanwhile.

        Yields the environment held, which is a newer generation if the given one was retired.
        """
        generation = environment.path.parent
        while True:
            with self._use_lock(generation, fcntl.LOCK_SH):
                manifest = read_manifest(generation)
                if manifest is not None:
                    yield _environment(generation, manifest, projects=environment.projects)
                    return
            newer = self._generation(environment.key)
            if newer is None or newer == generation:
                raise BuildError(
                    f"The environment {environment.key} is gone from {self.root}.",
                    advice="Run again: it is rebuilt.",
                )
            generation = newer

    def _provide(
        self, plan: Plan, listener: Listener, *, full: bool = False, notes: tuple[str, ...] = ()
    ) -> Environment:
        if found := self._sound(plan, full, notes):
            return found
        for folder in ("envs", "generations", "tmp", "locks", "quarantine"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "locks" / plan.key):
            if found := self._sound(plan, full, notes):
                return found
            old = self._generation(plan.key)
            damage = _examine(old, read_manifest(old), full=full) if old else ()
            self._sweep(plan.key)
            with Stages(listener).stage("build", f"{', '.join(plan.projects)}"):
                generation, manifest = self._build(plan, old, listener)
            self._retire(plan.key, old)
        mended = tuple(f"{one.sentence}; the environment was rebuilt." for one in damage)
        for sentence in mended:
            listener(Noted(sentence=sentence))
        return _environment(
            generation, manifest, projects=plan.projects, built=True, notes=(*notes, *mended)
        )

    def _sound(self, plan: Plan, full: bool, notes: tuple[str, ...]) -> Environment | None:
        generation = self._generation(plan.key)
        manifest = read_manifest(generation) if generation else None
        if generation is None or manifest is None or _examine(generation, manifest, full=full):
            return None
        return _environment(generation, manifest, projects=plan.projects, notes=notes)

    def _build(self, plan: Plan, old: Path | None, listener: Listener) -> tuple[Path, Manifest]:
        """Build in tmp, rename to the next generation, point the key's link at it."""
        draft = self.root / "tmp" / f"{plan.key}.{os.getpid()}-{uuid4().hex[:6]}"
        try:
            manifest = build_generation(draft, plan, uv=self.uv, listener=listener)
            make_readonly(draft / "venv")
            generation = self._next_generation(plan.key)
            draft.rename(generation)
        except BaseException:
            remove_folder(draft)
            raise
        link_whole(self.root / "envs" / plan.key, f"../generations/{generation.name}")
        return generation, manifest

    def _next_generation(self, key: str) -> Path:
        folder = self.root / "generations"
        numbers = [int(path.name.rpartition(".")[2]) for path in folder.glob(f"{key}.*")]
        return folder / f"{key}.{max(numbers, default=0) + 1}"

    def _generation(self, key: str) -> Path | None:
        link = self.root / "envs" / key
        return link.resolve() if link.is_symlink() else None

    def _known_generation(self, key: str) -> Path:
        generation = self._generation(key)
        if generation is None:
            raise UsageError(
                f"There is no environment {key} in {self.root}.",
                advice="`venv-builder list` shows those that are.",
            )
        return generation

    def _sweep(self, key: str) -> None:
        """Remove what killed builds left, and retired generations that nobody holds."""
        for draft in (self.root / "tmp").iterdir():
            owner = draft.name.partition(".")[0]
            if owner == key:
                remove_folder(draft)
                continue
            try:
                with FileLock(self.root / "locks" / owner, timeout=0):
                    remove_folder(draft)
            except Timeout:
                continue
        current = self._generation(key)
        for generation in (self.root / "generations").glob(f"{key}.*"):
            if generation != current:
                self._retire(key, generation)

    def _retire(self, key: str, generation: Path | None) -> None:
        """Move a replaced generation to quarantine, unless a job still holds it."""
        if generation is None or not generation.is_dir():
            return
        try:
            with self._use_lock(generation, fcntl.LOCK_EX | fcntl.LOCK_NB):
                generation.rename(
                    self.root / "quarantine" / f"{generation.name}-{uuid4().hex[:6]}"
                )
        except BlockingIOError:
            return
        found = sorted((self.root / "quarantine").iterdir(), key=lambda one: one.stat().st_mtime)
        for folder in found[:-_KEPT_IN_QUARANTINE]:
            remove_folder(folder)

    @contextmanager
    def _use_lock(self, generation: Path, mode: int) -> Iterator[None]:
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        handle = os.open(locks / f"{generation.name}.use", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, mode)
            yield
        finally:
            os.close(handle)


def _examine(generation: Path, manifest: Manifest | None, *, full: bool) -> tuple[Damage, ...]:
    if manifest is None:
        paths = ("manifest.json",)
        return (_own_damage(paths),)
    venv = generation / "venv"
    damage = compare_files(manifest.files, scan_files(venv, full=full), full=full)
    if not damage and not os.access(venv / "bin" / "python", os.X_OK):
        return (_own_damage(("bin/python",)),)
    return damage


def _own_damage(paths: tuple[str, ...]) -> Damage:
    return Damage(
        distribution="the environment itself",
        kind=DamageKind.MISSING,
        count=len(paths),
        total=len(paths),
        paths=paths,
    )


def _group_notes(group: Group) -> tuple[str, ...]:
    if not group.left_out:
        return group.lock.notes
    names = ", ".join(group.left_out)
    sentence = f"The requirements of {names} do not fit with those of {', '.join(group.projects)}:"
    return (*group.lock.notes, f"{sentence} they have environments of their own.")


def _environment(
    generation: Path,
    manifest: Manifest,
    *,
    projects: tuple[str, ...] | None = None,
    built: bool = False,
    notes: tuple[str, ...] = (),
) -> Environment:
    venv = generation / "venv"
    return Environment(
        key=manifest.key,
        path=venv,
        python=venv / "bin" / "python",
        distributions=manifest.distributions,
        projects=manifest.projects if projects is None else projects,
        built=built,
        notes=notes,
    )
