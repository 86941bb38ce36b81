"""Builds one environment in a folder of its own: venv, sync, audit, bytecode, manifest.

The folder is thrown away if any step fails; publishing it is the cache's work. What uv installed
is compared by sha256 with the RECORDs; distributions that differ are dropped from uv's cache and
the environment is built once more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from venv_builder.audit import (
    Damage,
    Record,
    compare_records,
    own_files,
    read_records,
    scan_files,
)
from venv_builder.bytecode import BytecodeStore
from venv_builder.errors import BuildError
from venv_builder.files import remove_folder
from venv_builder.interpreters import Interpreter
from venv_builder.manifest import Manifest, write_manifest
from venv_builder.processes import Completed
from venv_builder.progress import Listener, Noted, Stages
from venv_builder.uv_tool import Uv, shorten

_FAILED = re.compile(r"Failed to build `?(?P<name>[\w.-]+?)==(?P<version>[^`\s]+)`?")
_FATAL = re.compile(r"fatal error: (.+)")
_REASON = re.compile(r"(?:error|\w+(?:Error|Exception)): (?!command |Command |Failed)(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to build: environment key, lock text, projects that share it, interpreter."""

    key: str
    lock: str
    projects: tuple[str, ...]
    interpreter: Interpreter


class UnbuildableError(BuildError):
    """One distribution of the environment cannot be built on this machine."""

    def __init__(self, sentence: str, *, advice: str = "", distribution: str) -> None:
        super().__init__(sentence, advice=advice)
        self.distribution = distribution


def build_generation(
    folder: Path, plan: Plan, *, uv: Uv, bytecode: BytecodeStore, listener: Listener
) -> Manifest:
    """Fill the new `folder` with `venv/`, manifest and ready marker.

    Raises BuildError if uv fails or the disk does not take it.
    """
    stages = Stages(listener)
    try:
        folder.mkdir(parents=True)
        with stages.stage("install", f"{plan.lock.count('==')} distributions"):
            _install(folder, plan, uv)
        with stages.stage("audit"):
            if damage := _audit(folder / "venv"):
                _install_again(folder, plan, uv, damage, listener)
        with stages.stage("bytecode"):
            records = read_records(folder / "venv")
            bytecode.fill(folder / "venv", records, plan.interpreter)
            return _seal(folder, plan, records)
    except OSError as error:
        raise BuildError(
            f"The environment could not be written below {folder.parent}: {error.strerror}.",
            advice="Make room there, or name another state folder.",
        ) from error


def _install(folder: Path, plan: Plan, uv: Uv) -> None:
    venv, lock = folder / "venv", folder / "lock.txt"
    lock.write_text(plan.lock, encoding="utf-8")
    uv.create(venv, python=plan.interpreter.path)
    completed = uv.sync(lock, python=venv / "bin" / "python")
    if completed.status:
        raise explain_failure(completed)


def explain_failure(completed: Completed) -> BuildError:
    """The error of a failed `uv pip sync`; names the distribution that did not build, and why."""
    failed = _FAILED.search(completed.stderr)
    if failed is None:
        return BuildError(
            f"uv could not install the environment: {shorten(completed)}",
            advice="Check the network, the package index and the disk.",
        )
    reasons = _FATAL.findall(completed.stderr)[:1] or _REASON.findall(completed.stderr)
    reason = reasons[-1].strip()[:200] if reasons else shorten(completed, 200)
    return UnbuildableError(
        f"{failed['name']} {failed['version']} could not be built: {reason.rstrip('.')}.",
        advice="Install the system libraries that the project's bindep.txt names.",
        distribution=failed["name"],
    )


def _install_again(
    folder: Path, plan: Plan, uv: Uv, damage: tuple[Damage, ...], listener: Listener
) -> None:
    """A damaged download is fetched anew; what then differs the same way was published so."""
    uv.forget(sorted({one.distribution for one in damage}), folder=folder)
    remove_folder(folder / "venv")
    _install(folder, plan, uv)
    for one in _audit(folder / "venv"):
        if one not in damage:
            raise BuildError(
                f"The environment is damaged right after its installation: {one.sentence}.",
                advice="Check the disk and uv's cache (`uv cache clean`).",
            )
        listener(Noted(sentence=f"{one.sentence}, compared with its RECORD; published so."))


def _audit(venv: Path) -> tuple[Damage, ...]:
    return compare_records(read_records(venv), scan_files(venv, full=True))


def _seal(folder: Path, plan: Plan, records: tuple[Record, ...]) -> Manifest:
    venv = folder / "venv"
    manifest = Manifest(
        key=plan.key,
        interpreter=plan.interpreter.label,
        python=str(plan.interpreter.path),
        projects=plan.projects,
        distributions=_versions(records),
        lock=plan.lock,
        files=own_files(records, scan_files(venv, full=True)),
    )
    write_manifest(folder, manifest)
    return manifest


def _versions(records: tuple[Record, ...]) -> dict[str, str]:
    return {record.name: record.version for record in records}
