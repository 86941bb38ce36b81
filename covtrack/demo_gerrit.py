"""`covtrack demo --gerrit`: a real Gerrit, the real service, and what is said on three changes.

Everything is below one folder and listens on loopback alone; all that is started ends with it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn

import click

from covtrack.demo import clear_folder, newest_python
from covtrack.demo_history import History, Step, make_history, push_to
from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.local_parts import gerrit_version, missing_parts
from covtrack.gerrit.local_server import LocalGerrit
from covtrack.gerrit.values import ChangeInfo, InlineComment, ReviewMessage
from covtrack.gerrit.verdict import OURS
from covtrack.grids import clean
from covtrack.settings import FILE_NAME
from covtrack.terminal import show_progress
from venv_builder.errors import InfrastructureError
from venv_builder.processes import ProcessGroup, start_group
from venv_builder.progress import Listener, Noted, Stages

SETTINGS = """\
# Written by covtrack demo --gerrit; this folder may be deleted as a whole.
state = "state"
listen = "127.0.0.1:0"

{server}

[projects."{name}"]
git = "{url}/{name}"
gerrit = "demo"
branch = "master"
constraints = "none"
# Lines alone: per-test data of branches needs coverage.py's slower recorder.
branch_coverage = false
{python}

[projects."{name}".review]
label = "Coverage"
"""
LONGEST_SECONDS = 900.0
MADE = "is measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What covtrack said on one change, and how many seconds after its upload."""

    step: Step
    change: ChangeInfo
    message: ReviewMessage
    comments: tuple[InlineComment, ...]
    seconds: float


@dataclass
class Serving:
    """A running `covtrack serve`; its log's new lines are handed on as they come."""

    group: ProcessGroup
    log: Path
    listener: Listener
    read: int = 0
    lines: list[str] = field(default_factory=list)

    def wait(self, ask: Callable[[], object], what: str) -> None:
        """Until `ask` is true; InfrastructureError if the service ends or takes too long."""
        end = monotonic() + LONGEST_SECONDS
        while not ask():
            self.follow()
            if self.group.poll() is not None or monotonic() > end:
                last = self.lines[-1] if self.lines else "nothing"
                raise InfrastructureError(
                    f"covtrack serve did not come to {what}; it said last: {last}",
                    advice=f"All that it said is in {self.log}.",
                )
            sleep(0.1)
        self.follow()

    def follow(self) -> None:
        """Hand on what is new in the log, without the date and time."""
        text = self.log.read_text(errors="replace")
        *new, rest = text[self.read :].split("\n")
        self.read = len(text) - len(rest)
        for line in new:
            self.lines.append(line[20:])
            self.listener(Noted(sentence=f"serve: {clean(line[20:])}"))

    def heard(self, words: str) -> bool:
        """Whether a line with these words came."""
        return any(words in line for line in self.lines)


def run_gerrit_demo(
    folder: Path, make: Callable[[Path, Listener], History] = make_history
) -> None:
    """Run the demo below `folder` and print what covtrack said on the changes.

    Raises UsageError if the folder holds something else, InfrastructureError without Java,
    Maven or network.
    """
    start = monotonic()
    folder = folder.resolve()
    clear_folder(folder)
    with _stopped_by_sigterm(), show_progress() as listener:
        stages = Stages(listener)
        with stages.stage("gerrit", "its jars are looked for (80 MB, once)"):
            _require_parts()
        history = make(folder, listener)
        with _started(folder, stages) as gerrit:
            told = _show(folder, gerrit, history, stages)
    for one in told:
        _print(one)
    click.echo("Gerrit and covtrack serve are stopped; their logs, and all data, are in")
    click.echo(f"  {folder}")
    click.echo(f"The demo took {monotonic() - start:.0f} s.")


def _require_parts() -> None:
    reason = missing_parts(gerrit_version())
    if reason is not None:
        raise InfrastructureError(
            reason,
            advice="Install a JDK from 17 on, Maven, git and OpenSSH (on Debian: "
            "default-jdk-headless maven git openssh-client); covtrack demo needs git alone.",
        )


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """End what was started when this process is asked to end, as by Ctrl-C."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _started(folder: Path, stages: Stages) -> Iterator[LocalGerrit]:
    gerrit = LocalGerrit(folder / "gerrit", name="demo")
    try:
        with stages.stage("gerrit", "starting"):
            gerrit.start()
        stages.listener(Noted(sentence=f"Gerrit {gerrit.version} runs on {gerrit.server.url}."))
        yield gerrit
    finally:
        gerrit.stop()


def _show(folder: Path, gerrit: LocalGerrit, history: History, stages: Stages) -> list[Told]:
    name = history.path.name
    with stages.stage("push", "the branch, as a direct push"):
        gerrit.request("PUT", f"projects/{name}", {"create_empty_commit": False})
        gerrit.grant_label("Coverage")
        push_to(history, gerrit.clone_url(name), history.merges[-1].commit, "refs/heads/master")
    _write_settings(folder / FILE_NAME, gerrit, name)
    client = GerritClient(gerrit.server)
    with _serving(folder, stages.listener) as serving:
        serving.wait(lambda: serving.heard(MADE), "a baseline")
        return [_upload(client, gerrit, history, step, serving) for step in history.siblings]


def _write_settings(path: Path, gerrit: LocalGerrit, name: str) -> None:
    text = SETTINGS.format(
        server=gerrit.table(),
        url=gerrit.server.url,
        name=name,
        python=newest_python(),
    )
    path.write_text(text, encoding="utf-8")


@contextmanager
def _serving(folder: Path, listener: Listener) -> Iterator[Serving]:
    """The real service, as a process of its own."""
    words = ["-P", "-m", "covtrack", "--config", str(folder / FILE_NAME), "serve"]
    log = folder / "serve.log"
    group = start_group(
        [sys.executable, *words],
        cwd=folder,
        env=dict(os.environ),
        stdout=folder / "serve.out",
        stderr=log,
    )
    try:
        yield Serving(group=group, log=log, listener=listener)
    finally:
        group.kill(20.0)


def _upload(
    client: GerritClient, gerrit: LocalGerrit, history: History, step: Step, serving: Serving
) -> Told:
    """Push one change for review and wait for what is said on it."""
    push_to(history, gerrit.clone_url(history.path.name), step.commit, "refs/for/master")
    uploaded = monotonic()
    serving.listener(Noted(sentence=f"Uploaded: {step.title}."))
    (change,) = client.changes(f"commit:{step.commit}")
    serving.wait(lambda: _verdict(client, change), f"a verdict on change {change.number}")
    message = _verdict(client, change)
    assert message is not None
    return Told(
        step=step,
        change=change,
        message=message,
        comments=client.comments(change.number),
        seconds=monotonic() - uploaded,
    )


def _verdict(client: GerritClient, change: ChangeInfo) -> ReviewMessage | None:
    messages = client.messages(change.number)
    return next((one for one in messages if (one.tag or "").startswith(OURS)), None)


def _print(told: Told) -> None:
    subject = clean(told.change.subject)
    click.echo(f"Change {told.change.number}: {subject}, {told.seconds:.1f} s after its upload")
    for line in told.message.text.splitlines():
        click.echo(f"    {clean(line)}".rstrip())
    for comment in told.comments:
        click.echo(f"  {clean(comment.path)}:{_lines(comment)}: {clean(comment.message)}")


def _lines(comment: InlineComment) -> str:
    first, last = comment.first_line, comment.last_line
    return str(last) if first in (None, last) else f"{first}-{last}"
