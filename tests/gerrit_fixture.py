"""Real Gerrits for the tests: one of a release for a whole run of tests, others of a test's own.

A run is `stestr run` with all of its workers, or one process where tests are started otherwise.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import tempfile
import unittest
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock

from covtrack.gerrit.local_parts import gerrit_version, missing_parts
from covtrack.gerrit.local_server import PASSWORD, PASSWORD_VARIABLE, LocalGerrit
from tests.scratch_git import ScratchRepository

PLACE = "covtrack-gerrits"
NEWEST = "3.13.0"


class RealGerrit(LocalGerrit):
    """A local Gerrit whose changes are pushed by git, from clones in a scratch folder."""

    def __init__(
        self,
        folder: Path,
        name: str = "real",
        version: str | None = None,
        starter: int | None = None,
    ) -> None:
        super().__init__(folder / "gerrit", name=name, version=version, starter=starter)

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

    def restore(self, number: int) -> None:
        """As its owner would."""
        self.request("POST", f"changes/{number}/restore", {})

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """While the block runs it takes connections and answers none."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)


class SharedGerrit(RealGerrit):
    """The server of a whole run of tests; the first that asks starts it, and nobody ends it.

    It ends with the process `run`, whose folders of earlier runs are removed.
    """

    def __init__(self, version: str, run: int) -> None:
        folder = Path(tempfile.gettempdir()) / PLACE / str(run) / version
        super().__init__(folder, version=version, starter=run)

    def ensure(self) -> None:
        """Start it, or find where it listens."""
        place = self._folder.parents[1]
        place.mkdir(parents=True, exist_ok=True)
        ports = self._folder / "ports.json"
        with FileLock(place / f"{self.version}.lock"):
            if ports.exists():
                self._http, self._ssh = json.loads(ports.read_text())
                os.environ[PASSWORD_VARIABLE] = PASSWORD
                return
            self._forget_others(place)
            self.start()
            self.grant_label("Coverage")
            ports.write_text(json.dumps((self._http, self._ssh)))

    @staticmethod
    def _forget_others(place: Path) -> None:
        for other in place.parent.iterdir():
            if not Path("/proc", other.name).exists():
                shutil.rmtree(other, ignore_errors=True)

    def grant_label(self, name: str) -> None:
        """Others may do so at this moment."""
        with FileLock(self._folder.parents[1] / f"{self.version}.labels.lock"):
            super().grant_label(name)

    def stop(self) -> None:
        """Other processes use it."""
        raise AssertionError("A test that stops Gerrit starts one of its own: own_gerrit.")

    kill = stop


def real_gerrit(version: str | None = None) -> RealGerrit:
    """This run's server of a release; raises SkipTest where a part of it is missing.

    Default is the newest release that the first Java of this machine runs.
    """
    found = _server(version or gerrit_version())
    if isinstance(found, str):
        raise unittest.SkipTest(found)
    return found


def own_gerrit(
    case: type[unittest.TestCase], name: str = "real", version: str | None = None
) -> RealGerrit:
    """A server of a test class' own, which may stop it; ends with the class. May skip it."""
    reason = missing_parts(version or gerrit_version())
    if reason is not None:
        raise unittest.SkipTest(reason)
    folder = Path(tempfile.mkdtemp(prefix="covtrack-own-gerrit-"))
    case.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
    gerrit = RealGerrit(folder, name, version)
    case.addClassCleanup(gerrit.kill)
    gerrit.start()
    gerrit.grant_label("Coverage")
    return gerrit


@cache
def _server(version: str) -> RealGerrit | str:
    reason = missing_parts(version)
    if reason is not None:
        return reason
    run = _find_run()
    if run is None:
        folder = Path(tempfile.mkdtemp(prefix="covtrack-gerrit-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        gerrit = RealGerrit(folder, version=version)
        atexit.register(gerrit.kill)
        gerrit.start()
        gerrit.grant_label("Coverage")
        return gerrit
    shared = SharedGerrit(version, run)
    shared.ensure()
    return shared


def _find_run() -> int | None:
    """The `stestr run` that this process is a worker of; None where it is none's."""
    pid = os.getppid()
    while pid > 1:
        try:
            words = Path("/proc", str(pid), "cmdline").read_text(errors="replace").split("\0")
            fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if any(Path(word).name == "stestr" for word in words):
            return pid
        pid = int(fields[1])
    return None
