"""Which patch set Gerrit's pages ask about, found among the projects and changes that are known.

Whoever can reach covtrack may ask: of private changes nothing is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from covtrack.gerrit.settings import GerritServer
from covtrack.settings import Settings, TrackedProject
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import ChangeStatus, Job, KnownChange
from venv_builder.errors import UsageError

MOST_JOBS = 200
LARGEST = 2**31  # the database's integers


class UnknownError(UsageError):
    """Nothing is known of what was asked about; the sentence names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A patch set as Gerrit's pages name it: `host` of the server, `project` as it has it."""

    host: str
    project: str
    change: int
    patch_set: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSet:
    """A patch set of a known change; `projects` are those of covtrack that measure it."""

    server: GerritServer
    projects: tuple[TrackedProject, ...]
    change: KnownChange
    number: int
    jobs: tuple[Job, ...]

    @property
    def commit(self) -> str | None:
        """Its full sha; None for an older patch set that nobody asked to have measured."""
        if self.jobs:
            return self.jobs[0].commit
        return self.change.commit if self.is_current else None

    @property
    def is_current(self) -> bool:
        """Whether the change has no newer one."""
        return self.number == self.change.patch_set

    @property
    def may_be_measured(self) -> bool:
        """Whether a recheck would queue a job: it is current, its change open and not hidden."""
        is_open = self.change.status is ChangeStatus.OPEN
        return self.is_current and is_open and not self.change.hidden

    def jobs_of(self, project: str) -> tuple[Job, ...]:
        """The jobs of one of its projects, newest first."""
        return tuple(job for job in self.jobs if job.project == project)


def parse_address(query: Mapping[str, str]) -> Address:
    """The patch set that a query names; UsageError, in a sentence, for what names none."""
    project = query.get("project", "")
    if not project:
        raise UsageError("The query names no project.")
    return Address(
        host=query.get("host", ""),
        project=project,
        change=_number(query, "change"),
        patch_set=_number(query, "patchset"),
    )


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    if not 0 < number < LARGEST:
        raise UsageError(f"The query's {name} must be a number from 1 to {LARGEST - 1}.")
    return number


def find_server(servers: Iterable[GerritServer], host: str) -> GerritServer | None:
    """The server at `host` (with or without its port), else the only one that there is."""
    known = tuple(servers)
    places = [(server, urlsplit(server.url)) for server in known]
    found = [server for server, place in places if place.netloc.lower() == host.lower()]
    found = found or [server for server, place in places if place.hostname == host.lower()]
    found = found or list(known)
    return found[0] if len(found) == 1 else None


def find_patch_set(settings: Settings, database: Database, address: Address) -> PatchSet:
    """What is known of the patch set; raises UnknownError, naming what is not known."""
    server = find_server(settings.gerrit.values(), address.host)
    if server is None:
        raise UnknownError(
            f"covtrack knows no single Gerrit server at {address.host or 'no host'}."
        )
    projects = settings.projects_of(server.name, address.project)
    if not projects:
        raise UnknownError(f"covtrack does not measure {address.project} of {server.name}.")
    change = database.read(
        lambda connection: inbox.read_change(connection, server.name, address.change)
    )
    if change is None or change.private or change.project != address.project:
        raise UnknownError(f"covtrack knows no change {address.change} of {address.project}.")
    if address.patch_set > change.patch_set:
        raise UnknownError(f"Change {address.change} has no patch set {address.patch_set}.")
    return PatchSet(
        server=server,
        projects=projects,
        change=change,
        number=address.patch_set,
        jobs=database.read(
            lambda connection: queueing.newest_jobs(
                connection,
                MOST_JOBS,
                server=server.name,
                change=address.change,
                patch_set=address.patch_set,
            )
        ),
    )
