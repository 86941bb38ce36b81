"""The cache of environments: found by key, built once, verified at each use, mended by a swap.

`envs/KEY` links to `generations/KEY.N`, which never changes once published. A build happens in
`tmp/` under the lock `locks/KEY`, and is renamed; a kill at any moment leaves only litter that
the next build removes. A live environment is never written to: mending publishes generation N+1
and retires N, which goes when no job holds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from venv_builder.audit import Damage, DamageKind, compare_files, scan_files
from venv_builder.bytecode import BytecodeStore
from venv_builder.construction import Plan, UnbuildableError, build_generation
from venv_builder.errors import BuildError, UsageError
from venv_builder.files import make_readonly, remove_folder
from venv_builder.generations import Generations
from venv_builder.interpreters import Interpreter, start_interpreter
from venv_builder.keys import environment_key
from venv_builder.manifest import Manifest, read_manifest
from venv_builder.progress import Listener, Noted, Stages, ignore
from venv_builder.refusals import read_refusal, write_refusal
from venv_builder.resolution import Lock, Resolver
from venv_builder.sharing import Group, Need, agree, describe_group, find_users
from venv_builder.uv_tool import Uv, Wheels, find_uv

_REFUSED_SECONDS = 3600.0


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
    """All environments below `root`; `uv_cache` is uv's own cache (None for its default).

    `wheels` is where distributions are looked for beside the index, or instead of it.
    """

    def __init__(
        self, root: Path, *, uv_cache: Path | None = None, wheels: Wheels | None = None
    ) -> None:
        self.root = root.resolve()
        self.uv_cache = uv_cache
        self.wheels = wheels
        self.generations = Generations(root=self.root)

    @property
    def constraints_folder(self) -> Path:
        """Where fetched constraint addresses are kept: `read_declarations(cache=...)`."""
        return self.root / "constraints"

    @property
    def bytecode(self) -> BytecodeStore:
        """What the sources of all environments were compiled to."""
        return BytecodeStore(folder=self.root / "bytecode")

    @cached_property
    def uv(self) -> Uv:
        """The uv program, looked for at its first use."""
        return find_uv(self.uv_cache, self.wheels)

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
        others, notes = list(beside), list[str]()
        while True:
            group = self._agree(need, others, interpreter, listener)
            plan = _plan(group, interpreter)
            try:
                self._recall_refusal(plan)
                told = (*notes, *describe_group(group))
                return self._provide(plan, listener, notes=told)
            except UnbuildableError as error:
                self._remember_refusal(plan, error)
                hurt = find_users(error.distribution, others, interpreter, self.resolver)
                if not hurt.intersection(group.projects):
                    raise
                others = [one for one in others if one.project not in hurt]
                notes.append(f"{error.sentence} {', '.join(sorted(hurt))} was left out.")

    def locks(
        self, needs: Sequence[Need], *, interpreter: Interpreter, listener: Listener = ignore
    ) -> tuple[Lock, ...]:
        """What each of `needs` resolves to alone, and the first with all the others beside it.

        Raises BuildError if one cannot be met.
        """
        if not interpreter.identity:
            interpreter = start_interpreter(interpreter.path)
        found = [
            self.resolver.resolve(need.requirements, need.constraints, interpreter)
            for need in needs
        ]
        if len(needs) > 1:
            found.append(self._agree(needs[0], needs[1:], interpreter, listener).lock)
        return tuple({lock.text: lock for lock in found}.values())

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

    def keys(self) -> tuple[str, ...]:
        """The keys of all published environments, damaged ones too."""
        return self.generations.keys()

    def environments(self) -> tuple[Environment, ...]:
        """All published environments whose manifest is whole, by key."""
        generations = [self._known_generation(key) for key in self.keys()]
        read = [(one, read_manifest(one)) for one in generations]
        return tuple(_environment(one, manifest) for one, manifest in read if manifest)

    @contextmanager
    def hold(self, environment: Environment) -> Iterator[Environment]:
        """Keep the environment while the block runs: nobody removes it meanwhile.

        Yields the environment held, which is a newer generation if the given one was retired.
        """
        generation = environment.path.parent
        while True:
            with self.generations.holding(generation):
                if generation == environment.path.parent and generation.is_dir():
                    yield environment
                    return
                manifest = read_manifest(generation)
                if manifest is not None:
                    yield _environment(
                        generation,
                        manifest,
                        projects=environment.projects,
                        notes=environment.notes,
                    )
                    return
            newer = self.generations.current(environment.key)
            if newer is None or newer == generation:
                raise BuildError(
                    f"The environment {environment.key} is gone from {self.root}.",
                    advice="Run again: it is rebuilt.",
                )
            generation = newer

    def _agree(
        self, need: Need, beside: Sequence[Need], interpreter: Interpreter, listener: Listener
    ) -> Group:
        with Stages(listener).stage("resolve", need.project):
            return agree(
                need,
                beside,
                interpreter=interpreter,
                resolver=self.resolver,
                folder=self.root / "groups",
            )

    def _recall_refusal(self, plan: Plan) -> None:
        """Raise again what a shared build failed of within the hour; one alone always tries."""
        refusal = read_refusal(self.root / "refusals" / plan.key, seconds=_REFUSED_SECONDS)
        if refusal and len(plan.projects) > 1 and self.generations.current(plan.key) is None:
            raise refusal

    def _remember_refusal(self, plan: Plan, error: UnbuildableError) -> None:
        write_refusal(self.root / "refusals" / plan.key, error)

    def _provide(
        self, plan: Plan, listener: Listener, *, full: bool = False, notes: tuple[str, ...] = ()
    ) -> Environment:
        if found := self._sound(plan, full, notes):
            return found
        with self.generations.building(plan.key, listener):
            if found := self._sound(plan, full, notes):
                return found
            old = self.generations.current(plan.key)
            damage = _examine(old, read_manifest(old), full=full) if old else ()
            self.generations.sweep(plan.key)
            with Stages(listener).stage("build", ", ".join(plan.projects)):
                generation, manifest = self._build(plan, listener)
            if old:
                self.generations.retire(old)
        mended = tuple(f"{one.sentence}; the environment was rebuilt." for one in damage)
        for sentence in mended:
            listener(Noted(sentence=sentence))
        return _environment(
            generation, manifest, projects=plan.projects, built=True, notes=(*notes, *mended)
        )

    def _sound(self, plan: Plan, full: bool, notes: tuple[str, ...]) -> Environment | None:
        generation = self.generations.current(plan.key)
        if generation is not None:
            self.generations.note_use(generation)
        manifest = read_manifest(generation) if generation else None
        if generation is None or manifest is None or _examine(generation, manifest, full=full):
            return None
        return _environment(generation, manifest, projects=plan.projects, notes=notes)

    def _build(self, plan: Plan, listener: Listener) -> tuple[Path, Manifest]:
        draft = self.generations.draft(plan.key)
        try:
            manifest = build_generation(
                draft, plan, uv=self.uv, bytecode=self.bytecode, listener=listener
            )
            make_readonly(draft / "venv")
            return self.generations.publish(plan.key, draft), manifest
        except BaseException:
            remove_folder(draft)
            raise

    def _known_generation(self, key: str) -> Path:
        generation = self.generations.current(key)
        if generation is None:
            raise UsageError(
                f"There is no environment {key} in {self.root}.",
                advice="`venv-builder list` shows those that are.",
            )
        return generation


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


def _plan(group: Group, interpreter: Interpreter) -> Plan:
    return Plan(
        key=environment_key(group.lock.lines, interpreter=interpreter),
        lock=group.lock.text,
        projects=group.projects,
        interpreter=interpreter,
    )


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
