"""Resolves requirement lines into a lock, once: locks are kept on disk by their inputs' key.

An unchanged project never resolves again and needs no network. Installs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from venv_builder.errors import BuildError
from venv_builder.files import write_whole
from venv_builder.interpreters import Interpreter
from venv_builder.keys import resolution_key
from venv_builder.processes import Completed
from venv_builder.requirement_lines import in_order, name_of
from venv_builder.uv_tool import Uv, describe_index, shorten

TOOLS = ("coverage", "python-subunit", "stestr", "testtools")
# virtualenv seeds setuptools below Python 3.12, and projects of that age import pkg_resources,
# which setuptools 81 dropped, without declaring it.
SEED = "setuptools<81; python_version < '3.12'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A resolution: its key, uv's lines (with hashes), and sentences for the user."""

    key: str
    text: str
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines without layout, sorted."""
        return in_order(line.strip().rstrip("\\ ") for line in self.text.splitlines() if line)


class ConflictError(BuildError):
    """The requirements cannot all be met together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Locks in `folder`, made by `uv` where they are missing."""

    folder: Path
    uv: Uv
    version: str

    def key(
        self, requirements: Iterable[str], constraints: Iterable[str], interpreter: Interpreter
    ) -> str:
        """The key of what is asked, tools included."""
        return resolution_key(
            [*requirements, *TOOLS, SEED],
            constraints,
            interpreter=interpreter,
            index=describe_index(self.uv),
            resolver=self.version,
        )

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], interpreter: Interpreter
    ) -> Lock:
        """The lock of the lines and the recorder's tools; from disk if it was made before.

        Raises ConflictError if they cannot be met together, BuildError if uv fails otherwise.
        """
        key = self.key(requirements, constraints, interpreter)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self.folder / f"{key}.json"
        if lock := _read_lock(kept, key):
            return lock
        with FileLock(self.folder / f"{key}.lock"):
            if lock := _read_lock(kept, key):
                return lock
            lock = self._make(key, requirements, constraints, interpreter)
            write_whole(kept, json.dumps({"text": lock.text, "notes": lock.notes}))
            return lock

    def _make(
        self,
        key: str,
        requirements: Sequence[str],
        constraints: Sequence[str],
        interpreter: Interpreter,
    ) -> Lock:
        first = self._ask([*requirements, *TOOLS, SEED], constraints, interpreter)
        if first.status == 0:
            return Lock(key=key, text=first.stdout)
        if not _is_conflict(first):
            raise _failure(first)
        freed = free_tools(constraints)
        second = self._ask([*requirements, *TOOLS], freed, interpreter)
        if second.status == 0:
            note = "The versions of coverage, stestr and testtools were chosen freely: "
            note += "the constraints left none that fit."
            return Lock(key=key, text=second.stdout, notes=(note,))
        raise _conflict(first, self.uv)

    def _ask(
        self, requirements: Sequence[str], constraints: Sequence[str], interpreter: Interpreter
    ) -> Completed:
        with TemporaryDirectory(prefix="covtrack-resolve-") as name:
            folder = Path(name)
            asked, bounds = folder / "requirements.in", folder / "constraints.txt"
            asked.write_text("\n".join(in_order(requirements)) + "\n", encoding="utf-8")
            bounds.write_text("\n".join(in_order(constraints)) + "\n", encoding="utf-8")
            return self.uv.compile(asked, bounds, python=interpreter.path, folder=folder)


def free_tools(constraints: Iterable[str]) -> tuple[str, ...]:
    """The constraints without those on the recorder's tools."""
    return tuple(line for line in constraints if name_of(line) not in (*TOOLS, "setuptools"))


def _is_conflict(completed: Completed) -> bool:
    offline = "network was disabled" in completed.stderr
    return "No solution found" in completed.stderr and not offline


def _conflict(completed: Completed, uv: Uv) -> ConflictError:
    advice = "Set constraints or extra_packages of the project in covtrack.toml."
    if uv.wheels is not None and uv.wheels.alone:
        advice = (
            f"Only {uv.wheels.place} was asked; fill it by: venv-builder wheels TREE --to FOLDER"
        )
    sentence = f"The requirements cannot be met: {_reason(completed)}"
    return ConflictError(sentence, advice=advice)


def _reason(completed: Completed) -> str:
    return shorten(completed).removeprefix("No solution found when resolving dependencies: ")


def _failure(completed: Completed) -> BuildError:
    return BuildError(
        f"uv could not resolve the requirements: {_reason(completed)}",
        advice="Check the network and the package index, or set constraints in covtrack.toml.",
    )


def _read_lock(path: Path, key: str) -> Lock | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Lock(key=key, text=said["text"], notes=tuple(said["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
