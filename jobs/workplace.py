"""One project's own folder on a machine: mirror, work tree, what outlives a job, and its lock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from jobs.repository import Mirror
from jobs.request import Places
from venv_builder.progress import Listener, Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """The folder of one project; `project` is its name, for sentences."""

    folder: Path
    project: str

    def mirror(self) -> Mirror:
        """The project's mirror, made on first use."""
        return Mirror(self.folder / "mirror.git")

    @property
    def places(self) -> Places:
        """Where the project's jobs work, and this process's own scratch folder."""
        return Places(
            tree=self.folder / "tree",
            kept=self.folder / "kept",
            stestr=self.folder / "stestr",
            scratch=self.folder / "scratch" / str(os.getpid()),
        )

    @contextmanager
    def locked(self, listener: Listener) -> Iterator[None]:
        """One job at a time per project: its work tree is one. The kernel frees a dead lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            sentence = f"Another run of {self.project} is under way; waiting for it."
            listener(Noted(sentence=sentence))
            lock.acquire()
        try:
            self._clear_litter()
            yield
        finally:
            lock.release()

    def _clear_litter(self) -> None:
        """Remove what a killed run left: nobody else holds the lock."""
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        for part in self.folder.glob("snapshots/*/*.new*"):
            part.unlink(missing_ok=True)
