"""Keeps the mirrors whole while `covtrack serve` runs: everything now and then, news at once.

In a thread of its own: no job and no verdict waits for it. After an event only what the event
names is fetched, since a listing of all reviews of a large project is megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.settings import GerritServer
from covtrack.mirrors import Mirrored, beside, configured, kept, matched
from covtrack.settings import Settings
from covtrack.store import inbox
from covtrack.store.database import Database
from venv_builder.errors import CovtrackError, describe_error

# Gerrit tells of a change before all of its refs are there.
SETTLE_SECONDS = 3.0
FIRST_WAIT, LONGEST_WAIT = 30.0, 600.0
BATCH = 500


@dataclass(slots=True)
class Plan:
    """When a mirror is fetched whole next and when its news are, by `monotonic`; what failed."""

    mirrored: Mirrored
    whole_at: float
    news_at: float | None = None
    changes: set[int] = field(default_factory=set)
    wait: float = 0.0


class Keeper:
    """Fetches what is due, one mirror at a step; `say` gets whole sentences.

    Of the servers `only`, None standing for projects on none; of all without it. One that hangs
    holds those of other keepers up in nothing.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        say: Callable[[str], None],
        connect: Callable[[GerritServer], GerritClient] = GerritClient,
        only: Collection[str | None] | None = None,
    ) -> None:
        self.only = {None, *settings.gerrit} if only is None else set(only)
        self.settings = settings
        self.database = database
        self.say = say
        self._connect = connect
        self._plans: dict[tuple[str | None, str], list[Plan]] = {}
        self._asked: dict[str, float] = {}
        self._away: set[str] = set()
        self._seen: int | None = None
        for one in configured(settings):
            self._add(one)

    def step(self) -> bool:
        """Fetch the mirror that is due for longest; whether there was one."""
        self._take_events()
        for server in self.settings.gerrit.values():
            if server.name in self.only:
                self._ask_names(server)
        now = monotonic()
        due = [plan for plan in self._all() if min(self._times(plan)) <= now]
        if due:
            self._fetch(min(due, key=lambda plan: min(self._times(plan))))
        return bool(due)

    @staticmethod
    def _times(plan: Plan) -> tuple[float, ...]:
        return (plan.whole_at,) if plan.news_at is None else (plan.whole_at, plan.news_at)

    def _all(self) -> Iterator[Plan]:
        for plans in self._plans.values():
            yield from plans

    def _add(self, one: Mirrored) -> None:
        plans = self._plans.setdefault((one.server, one.on_server), [])
        if one.server in self.only and all(plan.mirrored.name != one.name for plan in plans):
            last = one.synced_at
            age = (datetime.now(UTC) - last).total_seconds() if last else float("inf")
            wait = max(0.0, self.settings.mirror_every - max(age, 0.0))
            plans.append(Plan(mirrored=one, whole_at=monotonic() + wait))

    def _ask_names(self, server: GerritServer) -> None:
        """Ask which projects match the server's patterns, as often as mirrors are fetched."""
        if not server.mirror or self._asked.get(server.name, 0.0) > monotonic():
            return
        names = kept(self.settings, server)
        wait = self.settings.mirror_every
        try:
            names = matched(server, self._connect(server))
            self._is_back(server.name)
        except CovtrackError as error:
            self._is_away(server.name, str(error))
            wait = min(wait, FIRST_WAIT)
        self._asked[server.name] = monotonic() + wait
        for one in beside(self.settings, server, names):
            self._add(one)

    def _take_events(self) -> None:
        """Note which mirrors have news; what came before this process is fetched whole anyway."""
        if self._seen is None:
            self._seen = self.database.read(inbox.newest_event)
        after = self._seen
        found = self.database.read(lambda connection: inbox.events_after(connection, after, BATCH))
        for received in found:
            self._seen = received.event_id
            payload = received.payload
            for plan in self._plans.get((received.server, str(payload.get("project"))), ()):
                plan.news_at = plan.news_at or monotonic() + SETTLE_SECONDS
                if isinstance(change := payload.get("change"), int):
                    plan.changes.add(change)

    def _fetch(self, plan: Plan) -> None:
        now = monotonic()
        whole = plan.whole_at <= now
        changes, name = frozenset(plan.changes), plan.mirrored.name
        plan.news_at = None
        plan.changes.clear()
        try:
            plan.mirrored.open().sync(plan.mirrored.url, None if whole else changes)
        except Exception as error:  # a mirror that cannot be read stops no other
            plan.wait = min(max(FIRST_WAIT, 2 * plan.wait), LONGEST_WAIT)
            plan.whole_at = now + plan.wait  # what was missed is fetched with all the rest
            self._is_away(name, describe_error(error))
            return
        plan.wait = 0.0
        self._is_back(name)
        if whole:
            plan.whole_at = monotonic() + self.settings.mirror_every

    def _is_away(self, name: str, sentence: str) -> None:
        if name not in self._away:
            self._away.add(name)
            self.say(f"{name}: not mirrored for the time being: {sentence}")

    def _is_back(self, name: str) -> None:
        if name in self._away:
            self._away.discard(name)
            self.say(f"{name}: mirrored again.")
