"""What is to be done about a build, from what Jenkins and the database say of it. Pure.

What Jenkins says is one look: its queue first, then the job's builds, so that what leaves the
queue between the two is in the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from covtrack.endings import TOO_LONG
from covtrack.jenkins.values import BuildInfo, QueueItem
from covtrack.store.queued import Build, BuildState

OURS = ("waits on Jenkins", "build ")  # how the words begin that say where a build stands
WAITED = "It waited too long for an agent of Jenkins."
# How long a build may be in neither the queue nor the list: Jenkins moves it between the two.
GRACE = timedelta(seconds=10)


class Act(StrEnum):
    """What to do about a build."""

    WAIT = "wait"
    ASK = "ask"  # have it queued, for the first time or again
    TAKE_OFF = "take off"  # the queue
    STOP = "stop"
    COLLECT = "collect"  # it ended: take what it left
    LOSE = "lose"  # nobody knows of it any more
    CLOSE = "close"  # nobody wants it, and it is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What Jenkins said at one moment, by run id."""

    at: datetime
    items: Mapping[str, QueueItem]
    builds: Mapping[str, BuildInfo]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the tracker wants of a build: whether its result is, and in what time.

    `grace` is how long it may be in neither queue nor list. `asked_at` is when Jenkins was last
    asked for it, `missed_at` since when it has been in no look; both None where this process does
    not know.
    """

    wanted: bool
    time_limit: timedelta
    queue_patience: timedelta
    grace: timedelta = GRACE
    asked_at: datetime | None = None
    missed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What to do, the values to note of the build, and where it stands for its job's row."""

    act: Act
    values: Mapping[str, Any] = field(default_factory=dict)
    progress: str = ""


def decide(build: Build, look: Look, wish: Wish) -> Move:
    """What to do about a build that is under way."""
    if info := look.builds.get(build.run_id):
        return _of_build(info, look, wish)
    if item := look.items.get(build.run_id):
        return _of_item(build, item, look, wish)
    missed = look.at - (wish.missed_at or look.at)
    if not wish.wanted:
        return Move(act=Act.CLOSE if missed >= wish.grace else Act.WAIT)
    if build.state is not BuildState.ORDERED:
        return Move(act=Act.LOSE if missed >= wish.grace else Act.WAIT)
    # An answer may have been lost, and what was asked for may come up yet.
    recent = wish.asked_at is not None and look.at - wish.asked_at < wish.grace
    return Move(act=Act.WAIT if recent else Act.ASK)


def _of_build(info: BuildInfo, look: Look, wish: Wish) -> Move:
    values = {"number": info.number, "url": info.url, "node": info.node, "told_at": look.at}
    if not info.building:
        ended = {**values, "result": info.result}
        return Move(act=Act.COLLECT if wish.wanted else Act.CLOSE, values=ended)
    values["state"] = BuildState.BUILDING.value
    progress = f"build {info.number} on {info.node or 'Jenkins'}"
    if not wish.wanted:
        return Move(act=Act.STOP, values=values)
    if look.at - info.began > wish.time_limit:
        return Move(act=Act.STOP, values={**values, "error": TOO_LONG}, progress=progress)
    return Move(act=Act.WAIT, values=values, progress=progress)


def _of_item(build: Build, item: QueueItem, look: Look, wish: Wish) -> Move:
    values: dict[str, Any] = {"state": BuildState.QUEUED.value, "told_at": look.at}
    if item.id is not None:
        values["queue_id"] = item.id
    # Old servers tell no id: there it is stopped once it begins.
    gone = Act.TAKE_OFF if item.id is not None else Act.WAIT
    if not wish.wanted:
        return Move(act=gone, values=values)
    if look.at - build.created_at > wish.queue_patience and gone is Act.TAKE_OFF:
        return Move(act=gone, values={**values, "error": WAITED})
    why = (item.why or "").strip(" ?")
    return Move(act=Act.WAIT, values=values, progress=f"waits on Jenkins: {why}".rstrip(": "))
