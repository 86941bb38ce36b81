"""Times a storm of events through the listener, the inbox and dispatch, into the queue.

An `ssh` of the tests plays the stream, a fake Gerrit answers its searches; the listener, the
database (SQLite) and dispatch are the real ones. Of the events, some are the patch sets of one
change, as many of no interest, the rest changes of their own. First all come at once, then a part
of them within a minute; there the latency is that from each event's being sent to its job's being
in the queue.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from covtrack.dispatching import handle_events
from covtrack.gerrit.listener import ServerListener
from covtrack.gerrit.playback import Watched
from covtrack.settings import TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import ALIVE, JobKind
from tests.fake_ssh import FakeSsh, line_of, storm
from tests.gerrit_fake import PASSWORD, PASSWORD_VARIABLE, FakeGerrit

QUIET_SECONDS = 5.0  # without an event, after which no more is waited for
PROJECT = TrackedProject(name="p", git="/p", gerrit="fake", branch="master")


# Sends a line when its turn comes, and notes when that was in place of the subject.
PACED = """#!/usr/bin/env python3
import sys, time
begun, rate = time.time(), {rate}
for number, line in enumerate(open("{folder}/stream")):
    time.sleep(max(0.0, begun + number / rate - time.time()))
    sys.stdout.write(line.replace("Storm", repr(time.time())))
    sys.stdout.flush()
time.sleep(600)
"""


def measure(
    events: int, sets: int, folder: Path, seconds_to_send: float = 0.0
) -> dict[str, object]:
    """Seconds until all is queued, and what is in the queue then."""
    ssh, gerrit = FakeSsh(folder), FakeGerrit()
    if seconds_to_send:
        script = PACED.format(rate=events / seconds_to_send, folder=folder)
        (folder / "ssh").write_text(script)
    os.environ["PATH"] = ssh.path
    os.environ[PASSWORD_VARIABLE] = PASSWORD
    gerrit.start()
    gerrit.create_project("p")
    ssh.play(*(line_of(event) for event in storm("p", events, sets)))
    wanted, stop = events - sets, threading.Event()
    with Database.open(f"sqlite:///{folder / 'inbox.sqlite'}") as database:
        listener = ServerListener(
            gerrit.server.model_copy(update={"ssh": "ssh://bot@localhost:1"}),
            [Watched(project="p", branches=frozenset({"master"}))],
            database,
            say=print,
            stop=stop,
            errors=folder / "ssh.err",
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = monotonic()
        threading.Thread(target=listener.run, daemon=True).start()
        last = begun + seconds_to_send
        while monotonic() - last < QUIET_SECONDS:
            if handle_events(database, [PROJECT]):
                last = max(last, monotonic())
            else:
                sleep(0.01)
        seconds = last - begun
        stop.set()
        jobs = database.read(lambda connection: queueing.newest_jobs(connection, 2 * events))
        known = database.read(lambda c: inbox.open_changes(c, "fake", "p", "master"))
    gerrit.stop()
    changes = [job for job in jobs if job.kind is JobKind.CHANGE]
    alive = [job for job in changes if job.state in ALIVE]
    sent = {one.change: float(one.subject) for one in known if seconds_to_send}
    late = sorted(job.queued_at.timestamp() - sent[job.change] for job in alive if sent)  # type: ignore[index]
    return {
        "events": events,
        "sent_within_seconds": seconds_to_send,
        "patch_sets_of_one_change": sets,
        "seconds": round(seconds, 2),
        "events_per_second": round(events / seconds),
        "jobs": len(changes),
        "alive": len(alive),
        "newest_of_the_one": [job.patch_set for job in alive if job.change == 1],
        "lost": wanted - len(changes),
        "latency_seconds": {
            f"p{share}": round(late[len(late) * share // 100], 3) for share in (50, 95, 99) if late
        },
        "memory_growth_mib": round(
            (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--sets", type=int, default=500)
    words = parser.parse_args()
    found = []
    for events, seconds in ((words.events, 0.0), (words.events // 3, 60.0)):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(events, words.sets, Path(folder), seconds))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
