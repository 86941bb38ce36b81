"""Bytecode of installed distributions: compiled once, copied into every later environment.

An archive holds what one distribution's sources compile to on one interpreter; its name has the
hash of those sources, as their RECORD states them. Only a build that nobody uses yet is written
to and read from, so measured code cannot put anything here.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from venv_builder.audit import Record
from venv_builder.interpreters import Interpreter
from venv_builder.processes import run_command

_COMPILE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BytecodeStore:
    """The archives below `folder`, for all interpreters."""

    folder: Path

    def fill(self, venv: Path, records: Iterable[Record], interpreter: Interpreter) -> None:
        """Give every installed source its bytecode, which is checked against nothing at import.

        Raises OSError if the disk does not take it. Sources that do not compile get none.
        """
        said = f"{interpreter.label} {interpreter.identity}"
        folder = self.folder / hashlib.sha256(said.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        missing = []
        for record in records:
            archive = folder / _name(record)
            if not _unpack(archive, venv):
                missing.append((archive, _sources(record)))
        _compile(venv, [source for _, sources in missing for source in sources])
        for archive, sources in missing:
            _pack(archive, venv, sources)


def _sources(record: Record) -> list[str]:
    return sorted(path for path, entry in record.files.items() if _is_source(path, entry.digest))


def _is_source(path: str, digest: str) -> bool:
    return path.endswith(".py") and bool(digest) and "/site-packages/" in path


def _name(record: Record) -> str:
    stated = "\n".join(f"{record.files[path].digest} {path}" for path in _sources(record))
    key = hashlib.sha256(stated.encode()).hexdigest()[:32]
    return f"{record.name}-{record.version}-{key}.zip"


def _unpack(archive: Path, venv: Path) -> bool:
    """Whether the archive was there and whole; a broken one is removed."""
    if not archive.exists():
        return False
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(venv)
    except (zipfile.BadZipFile, EOFError):
        archive.unlink(missing_ok=True)
        return False
    return True


def _compile(venv: Path, sources: list[str]) -> None:
    if not sources:
        return
    # No site: a distribution's .pth files would run code.
    python = [str(venv / "bin" / "python"), "-I", "-S", "-m", "compileall"]
    options = ["-q", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-i", "-"]
    run_command(
        [*python, *options], cwd=venv, env={}, stdin="\n".join(sources), timeout=_COMPILE_SECONDS
    )


def _pack(archive: Path, venv: Path, sources: list[str]) -> None:
    draft = archive.with_name(f".{uuid4().hex}.draft")
    try:
        with zipfile.ZipFile(draft, "w") as packed:
            for source in sources:
                path = venv / source
                for compiled in sorted((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc")):
                    packed.write(compiled, compiled.relative_to(venv))
        draft.replace(archive)
    finally:
        draft.unlink(missing_ok=True)
