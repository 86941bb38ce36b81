"""A job's environment: what the tree declares, the shared env for it, the tree's own metadata."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from typing import Any

from jobs.confinement import Confinement
from jobs.project import ProjectSettings
from venv_builder import (
    Declared,
    Environment,
    EnvironmentCache,
    Interpreter,
    Need,
    Overlay,
    pick_interpreter,
    read_declarations,
    write_overlay,
)
from venv_builder.errors import InfrastructureError
from venv_builder.processes import Completed
from venv_builder.progress import Listener

DECLARING = ("tox.ini", "setup.cfg", "pyproject.toml", "setup.py", "toxfile.py", "tox.toml")
TOX_TIMEOUT = 60.0
# Sections of a tox.ini that are about documents and style.
BESIDE_TESTS = re.compile(
    r"flake8.*|hacking.*|doc8|isort|pycodestyle|"
    r"testenv:(docs|pdf-docs|releasenotes|api-ref|api-guide|pep8|lint|linters|bandit|bindep)"
)
# What an address holds may change without notice, and what could not be had may come back.
ASK_AFTER = 24 * 3600.0
RETRY_AFTER = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An environment ready to run a tree's tests in, held until the job ends."""

    environment: Environment
    overlay: Overlay
    declared: Declared
    need: Need
    interpreter: Interpreter

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the environment came about."""
        return (*self.declared.notes, *self.environment.notes, *self.overlay.notes)


def prepare_environment(
    tree: Path,
    blobs: Mapping[str, str],
    settings: ProjectSettings,
    *,
    cache: EnvironmentCache,
    held: ExitStack,
    kept: Path,
    scratch: Path,
    beside: Sequence[Need],
    version: str | None,
    listener: Listener,
) -> Prepared:
    """Read what the tree declares (once per content, kept below `kept`), get its environment.

    `held` keeps the environment from being replaced until it is closed. `beside` are the other
    projects' needs: one environment serves all that resolve together.
    Raises BuildError if nothing resolves or installs.
    """
    interpreter = pick_interpreter(settings.python)
    declared = _declare(
        tree,
        blobs,
        settings,
        interpreter,
        kept=kept,
        downloads=cache.constraints_folder,
        scratch=scratch,
    )
    need = Need(
        project=settings.name,
        requirements=declared.requirements,
        constraints=declared.constraints,
    )
    obtained = cache.obtain(need, beside=beside, interpreter=interpreter, listener=listener)
    environment = held.enter_context(cache.hold(obtained))
    overlay = write_overlay(tree, scratch / "overlay", version=version, python=environment.python)
    return Prepared(
        environment=environment,
        overlay=overlay,
        declared=declared,
        need=need,
        interpreter=interpreter,
    )


def _declare(
    tree: Path,
    blobs: Mapping[str, str],
    settings: ProjectSettings,
    interpreter: Interpreter,
    *,
    kept: Path,
    downloads: Path,
    scratch: Path,
) -> Declared:
    """What the tree declares; tox is asked only if a file that it may read has changed."""
    inputs = {
        path: blob
        for path, blob in blobs.items()
        if path in DECLARING or (path.endswith((".txt", ".in")) and "requirements" in path)
    }
    if "tox.ini" in inputs:
        inputs["tox.ini"] = relevant_tox((tree / "tox.ini").read_text(errors="replace"))
    asked = [
        settings.tox_env,
        _fingerprint(settings.constraints),
        settings.extras,
        settings.requirements,
        settings.extra_packages,
    ]
    key = hashlib.sha256(
        json.dumps([sorted(inputs.items()), asked, interpreter.version]).encode()
    ).hexdigest()[:32]
    file = kept / f"{key}.json"
    known = _read_declared(file)
    if known is not None and _is_young(file, RETRY_AFTER if known.notes else ASK_AFTER):
        return known

    def run(
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Completed:
        variables = env or {}
        own = tuple(value for name, value in variables.items() if name in ("HOME", "TMPDIR"))
        confinement = Confinement(scratch=scratch, memory=None, writable=own)
        clean = confinement.environment((interpreter.path.parent,), variables)
        return confinement.run(argv, cwd=cwd or tree, env=clean, timeout=timeout or TOX_TIMEOUT)

    declared = read_declarations(
        tree,
        interpreter=interpreter,
        tox_env=settings.tox_env,
        constraints=settings.constraints,
        run=run,
        also=(*(f"-r {name}" for name in settings.requirements), *settings.extra_packages),
        extras=settings.extras,
        cache=downloads,
    )
    _write_declared(file, declared)
    return declared


def relevant_tox(text: str) -> str:
    """A tox.ini without the environments that no test runs in, unless others refer to them."""
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except ConfigParserError:
        return text
    parts = {name: json.dumps(dict(parser[name])) for name in parser.sections()}
    kept = {name for name in parts if not BESIDE_TESTS.fullmatch(name)}
    while more := {
        name for name in parts.keys() - kept if any(f"[{name}]" in parts[other] for other in kept)
    }:
        kept |= more
    return json.dumps([(name, parts[name]) for name in sorted(kept)])


def _fingerprint(constraints: str | None) -> str | None:
    """What a constraints setting stands for: a local file's content, else the words."""
    if constraints is None or "://" in constraints or not Path(constraints).is_file():
        return constraints
    return hashlib.sha256(Path(constraints).read_bytes()).hexdigest()


def _is_young(file: Path, seconds: float) -> bool:
    return time() - file.stat().st_mtime < seconds


def _read_declared(file: Path) -> Declared | None:
    try:
        stored: dict[str, Any] = json.loads(file.read_text())
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        return Declared(**values)
    except (OSError, ValueError, TypeError):
        return None


def _write_declared(file: Path, declared: Declared) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(declared)))
        new.replace(file)
    except OSError as error:
        raise InfrastructureError(
            f"{file.parent} cannot be written: {error.strerror}.",
            advice="Make room, or set another state folder in covtrack.toml.",
        ) from error
