"""Kills `covtrack serve` with kill -9 at random moments, while patch sets reach a real Gerrit.

Then lets it finish, and counts: patch sets that no job knows, verdicts that are missing on the
newest patch sets, and patch sets with more than one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep

from covtrack.gerrit.client import GerritClient
from covtrack.store import queueing
from covtrack.store.database import Database
from covtrack.store.queued import ALIVE, DUE, JobKind
from tests.gerrit_fixture import RealGerrit
from tests.integration.test_serving import SETTINGS, TAG
from tests.sample_project import FILES
from tests.scratch_git import ScratchRepository
from venv_builder.processes import ProcessGroup, start_group

ROOT = Path(__file__).parents[1]
PROJECT = "sample"


@dataclass
class Stage:
    """The server, the clone that pushes, and the folder of covtrack."""

    gerrit: RealGerrit
    folder: Path

    def prepare(self) -> None:
        """A project with a first commit, and covtrack's settings."""
        self.gerrit.start()
        self.gerrit.grant_label("Coverage")
        self.gerrit.create_project(PROJECT)
        self.url = self.gerrit.clone_url(PROJECT)
        self.clone = ScratchRepository(self.folder / "clone")
        self.clone.git("pull", "-q", self.url, "master")
        self.clone.commit({name: dedent(text) for name, text in FILES.items()}, "Begin")
        self.clone.git("push", "-q", self.url, "HEAD:refs/heads/master")
        self.clone.git("branch", "start")
        (self.folder / "covtrack.toml").write_text(
            SETTINGS.format(
                state=self.folder / "state",
                database=self.folder / "serve.sqlite",
                server=self.gerrit.table(),
                project=PROJECT,
                git=self.url,
            )
        )

    def push(self, change_id: str, number: int) -> None:
        """The next patch set of a change."""
        self.clone.git("checkout", "-q", "--detach", "start")
        grown = f"width * height + {number} - {number}"
        text = dedent(FILES["sample/shapes.py"]).replace("width * height", grown)
        self.clone.commit({"sample/shapes.py": text}, f"Change {number}\n\nChange-Id: {change_id}")
        self.clone.git("push", "-q", self.url, "HEAD:refs/for/master")

    def serve(self, log: str) -> ProcessGroup:
        """Start covtrack serve."""
        command = [sys.executable, "-P", "-m", "covtrack", "--config"]
        return start_group(
            [*command, str(self.folder / "covtrack.toml"), "serve"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=self.folder / f"{log}.out",
            stderr=self.folder / f"{log}.log",
        )


def kill_often(stage: Stage, kills: int, changes: int) -> list[str]:
    """Push a patch set per kill, of one of the changes; their Change-Ids."""
    ids = [f"I{secrets.token_hex(20)}" for _ in range(changes)]
    for number in range(kills):
        serving = stage.serve("serve")
        moment = random.uniform(0.3, 5.0)  # noqa: S311
        sleep(moment / 2)
        stage.push(ids[number % changes], number)
        sleep(moment / 2)
        os.kill(serving.pid, signal.SIGKILL)
        serving.kill()
    return ids


def finish(stage: Stage, database: Database, seconds: float = 300.0) -> bool:
    """Whether, served in peace, everything came to its end in time."""
    serving = stage.serve("last")
    end = monotonic() + seconds
    quiet = 0
    while monotonic() < end and quiet < 10:
        sleep(0.5)
        jobs = database.read(lambda connection: queueing.newest_jobs(connection, 10_000))
        busy = any(job.state in ALIVE or job.verdict in DUE for job in jobs)
        quiet = 0 if busy or not jobs else quiet + 1
    serving.kill(20.0)
    return quiet >= 10


def main() -> None:
    """Kill, count, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--changes", type=int, default=20)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        stage = Stage(gerrit=RealGerrit(Path(name)), folder=Path(name))
        try:
            stage.prepare()
            ids = kill_often(stage, words.kills, words.changes)
            with Database.open(f"sqlite:///{stage.folder / 'serve.sqlite'}") as database:
                found = count(stage, ids, database, finish(stage, database))
        finally:
            stage.gerrit.kill()
    print(json.dumps({"kills": words.kills, **found}, indent=1))


def count(stage: Stage, ids: list[str], database: Database, ended: bool) -> dict[str, object]:
    """Lost, missing and doubled."""
    client = GerritClient(stage.gerrit.server)
    jobs = database.read(lambda connection: queueing.newest_jobs(connection, 10_000))
    known = {(job.change, job.patch_set) for job in jobs if job.kind is JobKind.CHANGE}
    newest, missing, doubled, pushed = 0, 0, 0, 0
    for change_id in ids:
        (info,) = client.changes(f"change:{change_id}")
        said = [m for m in client.messages(info.number) if (m.tag or "").startswith(TAG)]
        per_set = [m.revision_number for m in said]
        newest += (info.number, info.patch_set) in known
        missing += per_set.count(info.patch_set) == 0
        doubled += sum(per_set.count(one) > 1 for one in set(per_set))
        pushed += info.patch_set
    return {
        "ended": ended,
        "changes": len(ids),
        "patch_sets": pushed,
        "newest_patch_sets_lost": len(ids) - newest,
        "verdicts_missing": missing,
        "verdicts_doubled": doubled,
        "jobs": len(jobs),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    main()
