"""`covtrack serve` while Gerrit is away: jobs go on from the mirror, verdicts come after."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import requests

from covtrack.gerrit.failures import Unreachable
from covtrack.store import inbox
from covtrack.store.queued import ALIVE, Job, JobKind, JobState
from jobs.replica import Replica
from tests.gerrit_fixture import RealGerrit, own_gerrit
from tests.integration.test_serving import ROOT, STATE, UNTESTED, ServeCase
from tests.sample_project import FILES
from venv_builder.processes import check_command

SHAPES = dedent(FILES["sample/shapes.py"])


class AwayTest(ServeCase):
    @classmethod
    def find_gerrit(cls) -> RealGerrit:
        return own_gerrit(cls)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.gerrit_is_back)

    def gerrit_is_back(self) -> None:
        """The other test uses the server too."""
        if not self.gerrit.runs:
            self.gerrit.start()

    def covtrack(self, *words: str) -> str:
        argv: list[str | Path] = [sys.executable, "-P", "-m", "covtrack", "--config", self.config]
        return check_command([*argv, *words], cwd=ROOT).stdout

    def is_heard(self) -> bool:
        found = self.database.read(lambda connection: inbox.unhandled(connection, 100))
        return any(received.payload["commit"] == self.info.sha for received in found)

    def ended_job(self) -> Job | None:
        changes = (job for job in self.jobs() if job.kind is JobKind.CHANGE)
        return next((job for job in changes if job.state not in ALIVE), None)

    def mirrored(self, ref: str) -> bool:
        return ref in Replica(self.mirror()).refs()

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def health(self) -> dict[str, Any]:
        url = self.log().partition("HTTP on ")[2].partition("\n")[0].rstrip(".")
        found: dict[str, Any] = requests.get(f"{url}/health", timeout=10).json()
        return found

    def mirror(self) -> Path:
        return STATE / "projects" / self.project / "mirror.git"

    def test_a_job_runs_from_the_mirror_and_its_verdict_comes_after(self) -> None:
        self.serve_only_until_heard()
        self.assertIn("refs", self.covtrack("mirror", "sync"))
        self.gerrit.stop()
        self.start()
        job = self.wait(lambda: self.ended_job())
        self.assertEqual(JobState.DONE, job.state, job.error)
        self.wait(lambda: "The verdict of job" in self.log())
        self.assertEqual(1, self.log().count("Jobs go on with what the mirror has"))
        health = self.health()
        self.assertEqual(("degraded", [self.project]), (health["status"], health["not_fetched"]))
        self.gerrit.restart()
        self.assertEqual(1, len(self.wait_for_verdicts(self.info)))
        self.wait(self.is_idle)
        self.assertEqual(1, len(self.verdicts(self.info)))

    def serve_only_until_heard(self) -> None:
        """The change's event is in the inbox, and nothing was fetched or measured."""
        self.start("listen")
        self.wait(lambda: "listening" in self.log())
        self.info = self.push(f"I{secrets.token_hex(20)}", "Add unused", shapes=SHAPES + UNTESTED)
        self.wait(lambda: self.is_heard())
        self.stop()
        (self.folder / "serve.log").unlink()
        self.assertFalse((self.mirror() / "HEAD").exists())

    def test_news_are_mirrored_at_once_and_outages_are_said_once(self) -> None:
        self.start()
        self.wait(lambda: "listening" in self.log())
        info = self.push(f"I{secrets.token_hex(20)}", "Add unused", shapes=SHAPES + UNTESTED)
        meta = f"refs/changes/{info.number % 100:02}/{info.number}/meta"
        self.wait(lambda: self.mirrored(meta))
        self.wait_for_verdicts(info)
        self.assertTrue(self.mirrored(info.ref))
        self.gerrit.stop()
        self.wait(lambda: "cannot be reached" in self.log())
        self.gerrit.restart()
        later = self.push(f"I{secrets.token_hex(20)}", "More", shapes=SHAPES + UNTESTED)
        self.wait_for_verdicts(later)
        self.wait(lambda: self.mirrored(later.ref))

    def test_gerrit_knows_all_after_a_crash(self) -> None:
        self.gerrit.kill()
        self.assertRaises(Unreachable, self.client.version)
        self.gerrit.restart()
        self.assertEqual((self.project,), self.client.project_names(self.project))
