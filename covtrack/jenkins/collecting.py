"""What an ended build left: its bundle is stored, its status and words say what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from covtrack.jenkins.client import JenkinsClient
from covtrack.jenkins.failures import Unreachable
from covtrack.jenkins.job_xml import BUNDLE, STATUS
from covtrack.jenkins.values import BuildInfo
from covtrack.store.queued import Build
from venv_builder.errors import CovtrackError, InfrastructureError, RefusedError

MOST_BUNDLE = 4 * 2**30
MOST_STATUS = 100
# Puts a bundle into the database, notes it in the build's row and the job's; again is fine.
Store = Callable[[Build, Path], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The step's exit status (0: its result is stored), words for a failure.

    `lost` says that the step never came to its end: its agent went away. What is `refused` would
    be refused again.
    """

    status: int
    words: str = ""
    lost: bool = False
    refused: bool = False


class Collector:
    """Fetches through `client` into `folder`, which is its own."""

    def __init__(self, client: JenkinsClient, folder: Path, store: Store) -> None:
        self.client = client
        self.job = client.server.job
        self.folder = folder
        self.store = store

    def collect(self, build: Build, info: BuildInfo) -> Left:
        """What the build left; its bundle is stored, unless the step brought it itself.

        Raises JenkinsError where Jenkins cannot give it now.
        """
        if build.stored:
            return Left(status=0)
        if info.artifact(BUNDLE):
            return self._store(build, info)
        status = self._status(info)
        where = info.url or f"build {info.number}"
        if status is None and info.result == "ABORTED":
            words = f"The build was stopped on Jenkins: {where}"
            return Left(status=InfrastructureError.exit_status, words=words)
        if status is None:
            words = f"The agent {info.node} went away during the build: {where}"
            return Left(status=InfrastructureError.exit_status, words=words, lost=True)
        if status == 0:
            words = f"The step left no {BUNDLE}: {where}"
            return Left(status=InfrastructureError.exit_status, words=words)
        return Left(status=status, words=f"{self._last_words(info)} ({where})")

    def _store(self, build: Build, info: BuildInfo) -> Left:
        artifact = info.artifact(BUNDLE)
        assert artifact is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{build.run_id}.bundle"
        try:
            self.client.download(self.job, info.number, artifact, target, MOST_BUNDLE)
            self.store(build, target)
        except Unreachable:
            raise
        except CovtrackError as error:
            refused = isinstance(error, RefusedError)
            return Left(status=error.exit_status, words=str(error), refused=refused)
        except Exception as error:  # other people's file must not keep all builds from their end
            words = f"A mistake of covtrack with the bundle, {type(error).__name__}: {error}"
            return Left(status=InfrastructureError.exit_status, words=words)
        finally:
            target.unlink(missing_ok=True)
        return Left(status=0)

    def _status(self, info: BuildInfo) -> int | None:
        artifact = info.artifact(STATUS)
        if artifact is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{info.run_id}.status"
        try:
            self.client.download(self.job, info.number, artifact, target, MOST_STATUS)
            text = target.read_text(errors="replace").strip()
        finally:
            target.unlink(missing_ok=True)
        return int(text) if text.isdigit() and len(text) < 4 else 1

    def _last_words(self, info: BuildInfo) -> str:
        """The last sentence of covtrack in the build's log, else its last line of the step."""
        try:
            lines = self.client.console(self.job, info.number).splitlines()
        except CovtrackError:
            return "The step failed."
        told = [line.removeprefix("covtrack: ") for line in lines if line.startswith("covtrack: ")]
        own = [line for line in lines if line.strip() and not line.startswith(("+ ", "Archiving"))]
        words = told or own[:-1] or ["The step failed without a word."]
        return words[-1].strip()[:500]
