"""What was missed: asked of the events-log plugin, else found by comparing with what is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.events import RECHECK, Event, EventKind, parse_event
from covtrack.gerrit.failures import GerritError, NotFound
from covtrack.gerrit.values import ChangeInfo, ReviewMessage
from covtrack.store.queued import ChangeStatus

# Clocks differ, and the server's log may lag behind.
OVERLAP = 600
FIRST_DAYS = 30
PROJECTS_A_QUERY = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A project as the server calls it, and the branches whose tips are looked at."""

    project: str
    branches: frozenset[str]


def play_back(
    client: GerritClient, watermark: int | None, watched: Sequence[Watched]
) -> Iterator[Event]:
    """Events since the watermark (epoch seconds by the server's clock), with an overlap.

    Without a watermark: open changes of the last days, and the branches' tips. What is known
    already comes again: the inbox takes each once. Raises GerritError.
    """
    since = None if watermark is None else datetime.fromtimestamp(watermark - OVERLAP, UTC)
    logged = _logged(client, since) if since else None
    if logged is not None:
        found = (parse_event(raw) for raw in logged)
        yield from (event for event in found if event is not None)
    else:
        yield from _compare(client, since, watched)
    for one in watched:
        yield from _tips(client, one)


def _logged(client: GerritClient, since: datetime) -> tuple[dict[str, Any], ...] | None:
    """The log's events; None where there is no log, or it fails while the server may answer."""
    try:
        return client.events_since(since)
    except GerritError:
        return None


def _compare(
    client: GerritClient, since: datetime | None, watched: Sequence[Watched]
) -> Iterator[Event]:
    for start in range(0, len(watched), PROJECTS_A_QUERY):
        names = [one.project for one in watched[start : start + PROJECTS_A_QUERY]]
        for info in client.changes(change_query(names, since), limit=None):
            rechecked = info.status == ChangeStatus.OPEN.value and since is not None
            messages = client.messages(info.number) if rechecked else ()
            yield from events_of(info, messages, since)


def change_query(projects: Iterable[str], since: datetime | None) -> str:
    """Gerrit's search for changes of these projects that may have news."""
    named = " OR ".join(f'project:"{name}"' for name in projects)
    if since is None:
        return f"({named}) status:open -age:{FIRST_DAYS}d"
    return f'({named}) after:"{since:%Y-%m-%d %H:%M:%S}"'


def events_of(
    info: ChangeInfo, messages: Iterable[ReviewMessage], since: datetime | None
) -> Iterator[Event]:
    """The events that would have led to the change's present state. Pure.

    Its newest patch set first, then how the change is now, then what was asked in messages.
    """
    yield _event(EventKind.PATCH_SET, info)
    if info.status == ChangeStatus.MERGED.value:
        yield _event(EventKind.MERGED, info)
    else:
        yield _event(EventKind.SEEN, info)
    for message in messages:
        recent = since is not None and message.date >= since
        if recent and not message.tag and RECHECK.search(message.text):
            yield _event(EventKind.COMMENT, info, message)


def _event(kind: EventKind, info: ChangeInfo, message: ReviewMessage | None = None) -> Event:
    asked = message is not None
    return Event(
        kind=kind,
        project=info.project,
        branch=info.branch,
        change=info.number,
        patch_set=message.revision_number if message else info.patch_set,
        commit=info.sha,
        ref=info.ref,
        subject=info.subject[:300],
        rework=info.kind,
        comment=message.text if message else "",
        wip=info.work_in_progress,
        private=info.private,
        at=int((message.date if asked and message else info.updated).timestamp()),
        status=info.status if kind is EventKind.SEEN else "",
    )


def confirm(client: GerritClient, told: Event, watched: Sequence[Watched]) -> tuple[Event, ...]:
    """What the server itself says of that which somebody told; a webhook alone is not believed.

    Raises GerritError where it cannot be asked.
    """
    tips = (
        event for one in watched if one.project == told.project for event in _tips(client, one)
    )
    if told.change is None:
        return tuple(tips)
    try:
        info = client.change(told.change)
        messages = client.messages(told.change) if told.kind is EventKind.COMMENT else ()
    except NotFound:
        return ()
    since = info.updated - timedelta(seconds=OVERLAP)
    more = tips if info.status == ChangeStatus.MERGED.value else ()
    return (*events_of(info, messages, since), *more)


def _tips(client: GerritClient, watched: Watched) -> Iterator[Event]:
    for branch, tip in client.branch_tips(watched.project).items():
        if branch in watched.branches:
            yield Event(
                kind=EventKind.REF_UPDATED,
                project=watched.project,
                branch=branch,
                ref=f"refs/heads/{branch}",
                commit=tip,
            )
