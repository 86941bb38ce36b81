"""Tries all that covtrack needs of a Gerrit server, and says what to do where it lacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.listener import ssh_command, stream_command
from covtrack.gerrit.settings import GerritServer
from covtrack.gerrit.verdict import check_template
from covtrack.settings import Settings, TrackedProject
from covtrack.tracking import Tracker
from jobs.addresses import without_password
from venv_builder.errors import CovtrackError
from venv_builder.processes import run_command

LOGIN_SECONDS = 30.0
ANSWER_SECONDS = 10.0
STREAM_SECONDS = 4.0
KILLED = -9


class Health(StrEnum):
    """How a finding is: fine, worth knowing, or in the way."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tried: on which server or project, and what came of it."""

    place: str
    health: Health
    sentence: str
    advice: str = ""


def examine(settings: Settings, tracker: Tracker) -> Iterator[Finding]:
    """What was found of each server and of the projects on it; nothing is posted or stored."""
    for server in settings.gerrit.values():
        projects = [one for one in settings.projects.values() if one.gerrit == server.name]
        yield from _examine_server(server, projects, tracker)


def _examine_server(
    server: GerritServer, projects: list[TrackedProject], tracker: Tracker
) -> Iterator[Finding]:
    try:
        client = GerritClient(server, timeout=ANSWER_SECONDS)
    except CovtrackError as error:
        yield _failed(server.name, error.sentence, error.advice)
        return
    yield _try(server.name, lambda: f"answers, version {client.version()}")
    yield _try(server.name, lambda: f"knows the account {client.account()}")
    yield _try_stream(server)
    yield _try_playback(server, client)
    if not projects:
        advice = f'Set gerrit = "{server.name}" for the projects that are reviewed there.'
        yield Finding(
            place=server.name, health=Health.NOTE, sentence="no project is on it", advice=advice
        )
    for project in projects:
        yield from _examine_project(project, client, tracker)


def _examine_project(
    project: TrackedProject, client: GerritClient, tracker: Tracker
) -> Iterator[Finding]:
    name = project.name_on_gerrit
    yield _try(project.name, lambda: f"has {len(client.branch_tips(name))} branches there")

    def fetch() -> str:
        tracker.mirror(project.name).fetch(project.git)
        return f"can be fetched from {without_password(project.git)}"

    yield _try(project.name, fetch)
    if project.review.template:
        yield _try(project.name, lambda: f"has the template {check_template(project.review)}")
    if project.review.label:
        yield _try_label(project, name, client)


def _try_label(project: TrackedProject, name: str, client: GerritClient) -> Finding:
    label = project.review.label or ""
    try:
        found = client.changes(f'project:"{name}" status:open', limit=1)
        if not found:
            sentence = f"has no open change to try a vote on {label} with"
            return Finding(place=project.name, health=Health.NOTE, sentence=sentence)
        allowed = client.labels_allowed(found[0].number).get(label, ())
    except CovtrackError as error:
        return _failed(project.name, error.sentence, error.advice)
    if {-1, 1} <= set(allowed):
        return Finding(place=project.name, health=Health.OK, sentence=f"lets us vote on {label}")
    advice = f"Make the label, and grant label-{label} from -1 to +1 on refs/heads/*."
    return _failed(project.name, f"does not let us vote on {label}", advice)


def _try_stream(server: GerritServer) -> Finding:
    if server.ssh is None:
        sentence = "has no ssh address: news come by webhook, and by asking every minute"
        return Finding(place=server.name, health=Health.NOTE, sentence=sentence)
    try:
        login = run_command(ssh_command(server, "version"), env=os.environ, timeout=LOGIN_SECONDS)
    except CovtrackError as error:
        return _failed(
            server.name, f"does not stream events: {error.sentence}", "Install OpenSSH."
        )
    if login.status:
        advice = "Check the key, known_hosts, and that the account has that key."
        words = f"does not stream events: no login by ssh: {login.last_words or 'no answer'}"
        return _failed(server.name, words, advice)
    # A refusal comes as soon as an answer does: what is not refused by then streams.
    patience = STREAM_SECONDS + 2 * login.seconds
    done = run_command(stream_command(server), env=os.environ, timeout=patience)
    if done.status == KILLED:
        return Finding(place=server.name, health=Health.OK, sentence="streams events")
    advice = "Give the account the capability Stream Events."
    return _failed(server.name, f"does not stream events: {done.last_words}", advice)


def _try_playback(server: GerritServer, client: GerritClient) -> Finding:
    hour = datetime.now(UTC) - timedelta(hours=1)
    try:
        logged = client.events_since(hour)
    except CovtrackError as error:
        return _failed(server.name, f"cannot play back events: {error.sentence}", error.advice)
    if logged is not None:
        return Finding(
            place=server.name, health=Health.OK, sentence="plays back events (events-log)"
        )
    sentence = "has no events-log plugin: what is missed is found by comparing changes"
    return Finding(place=server.name, health=Health.NOTE, sentence=sentence)


def _try(place: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(place=place, health=Health.OK, sentence=ask())
    except CovtrackError as error:
        return _failed(place, error.sentence, error.advice)


def _failed(place: str, sentence: str, advice: str) -> Finding:
    return Finding(place=place, health=Health.FAILED, sentence=sentence, advice=advice)
