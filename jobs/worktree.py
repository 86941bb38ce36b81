"""A work tree that lives from job to job: unchanged files keep their mtime, so bytecode stays.

Measured code may write into its tree while it runs; what it wrote is gone before the next job.
Bytecode is trusted only where this module saw it written by the compiler.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.repository import Mirror
from venv_builder.processes import run_command

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worktree:
    """The folder `root`, laid out from `mirror`; its index and bytecode list lie beside it."""

    mirror: Mirror
    root: Path

    @property
    def index(self) -> Path:
        """Git's index of this tree, outside the tree."""
        return self.root.with_name(self.root.name + ".index")

    @property
    def _trusted(self) -> Path:
        return self.root.with_name(self.root.name + ".bytecode.json")

    def check_out(self, sha: str) -> None:
        """Make the tree hold exactly commit `sha`, with no bytecode of doubtful origin."""
        self.drop_doubtful_bytecode()
        self.mirror.lay_out(sha, self.root, self.index)

    def drop_doubtful_bytecode(self) -> None:
        """Delete every .pyc that is not, stat for stat, what `compile` left."""
        trusted = self._read_trusted()
        for pyc in self._bytecode():
            if trusted.get(str(pyc.relative_to(self.root))) != _stamp(pyc):
                pyc.unlink(missing_ok=True)

    def compile(self, python: Path, tag: str) -> None:
        """Compile what has no fresh bytecode; runs the compiler, none of the tree's code.

        `tag` is the interpreter's cache tag, such as cpython-313.
        """
        stale = [path for path in self._sources() if _is_stale(path, tag)]
        if stale:
            # Forced: compileall compares whole seconds, a job may change a file twice in one.
            arguments: list[str | Path] = [python, "-I", "-m", "compileall", "-q", "-f", "-i", "-"]
            # Files that do not compile are told when they are imported or parsed.
            run_command(arguments, cwd=self.root, stdin="\n".join(map(str, stale)))
        self._write_trusted()

    def _sources(self) -> Iterator[Path]:
        # os.walk order does not matter: the compiler takes each file by itself.
        return (path for path in self.root.rglob("*.py") if path.is_file())

    def _bytecode(self) -> Iterator[Path]:
        found = self.root.rglob("*.pyc") if self.root.exists() else iter(())
        return (path for path in found if path.is_symlink() or not path.is_dir())

    def _read_trusted(self) -> Mapping[str, _Stamp]:
        try:
            stored = json.loads(self._trusted.read_text())
            return {path: tuple(stamp) for path, stamp in stored.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _write_trusted(self) -> None:
        stamps = {str(pyc.relative_to(self.root)): _stamp(pyc) for pyc in self._bytecode()}
        new = self._trusted.with_suffix(".new")
        new.write_text(json.dumps(stamps))
        new.replace(self._trusted)


def _stamp(path: Path) -> _Stamp:
    """What identifies a file that nobody has written since: ctime cannot be set back."""
    stat = path.lstat()
    return (stat.st_ino, stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size)


def _is_stale(source: Path, tag: str) -> bool:
    compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
    try:
        return compiled.stat().st_mtime_ns < source.stat().st_mtime_ns
    except FileNotFoundError:
        return True
