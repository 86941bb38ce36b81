"""A real Gerrit for the tests: started once per process when first asked for, ends with it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import unittest
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from covtrack.gerrit.local_parts import missing_parts
from covtrack.gerrit.local_server import LocalGerrit
from tests.scratch_git import ScratchRepository


class RealGerrit(LocalGerrit):
    """A local Gerrit whose changes are pushed by git, from clones in a scratch folder."""

    def __init__(self, folder: Path, name: str = "real") -> None:
        super().__init__(folder / "gerrit", name=name)

    def push(
        self, project: str, change_id: str, files: Mapping[str, str], subject: str = "A change"
    ) -> str:
        """A new change, or the next patch set of the one with that Change-Id; its sha."""
        root = Path(tempfile.mkdtemp(dir=self._folder)) / "clone"
        clone = ScratchRepository(root)
        clone.git("pull", "-q", self.clone_url(project), "master")
        sha = clone.commit(files, f"{subject}\n\nChange-Id: {change_id}")
        clone.git("push", "-q", self.clone_url(project), "HEAD:refs/for/master")
        return sha

    def abandon(self, number: int) -> None:
        """As its owner would."""
        self.request("POST", f"changes/{number}/abandon", {})

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """While the block runs it takes connections and answers none."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def restore(self, number: int) -> None:
        """As its owner would."""
        self.request("POST", f"changes/{number}/restore", {})


def real_gerrit() -> RealGerrit:
    """This process's server; raises SkipTest where a part of it is missing."""
    found = _server()
    if isinstance(found, str):
        raise unittest.SkipTest(found)
    return found


@cache
def _server() -> RealGerrit | str:
    reason = missing_parts()
    if reason is not None:
        return reason
    folder = Path(tempfile.mkdtemp(prefix="covtrack-gerrit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    gerrit = RealGerrit(folder)
    atexit.register(gerrit.kill)
    gerrit.start()
    return gerrit
