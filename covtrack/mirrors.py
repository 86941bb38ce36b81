"""Which mirrors there are: one of each configured project, and those that patterns ask for."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.settings import GerritServer
from covtrack.settings import Settings
from jobs.replica import Replica, read_synced
from venv_builder.errors import UsageError

ENDING = ".git"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A project and where its mirror lies; `on_server` is its name on the server, if it has one.

    `environment` is what git needs beside the address, such as credentials.
    """

    name: str
    url: str
    path: Path
    server: str | None = None
    on_server: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def open(self) -> Replica:
        """The mirror, made on first use."""
        return Replica(self.path, self.environment)

    @property
    def exists(self) -> bool:
        """Whether anything was ever fetched into it."""
        return (self.path / "HEAD").exists()

    @property
    def synced_at(self) -> datetime | None:
        """When all of it was last fetched; None where it never was, or cannot be told."""
        return read_synced(self.path)


def configured(settings: Settings) -> tuple[Mirrored, ...]:
    """The mirrors of the configured projects, by name."""
    return tuple(
        Mirrored(
            name=name,
            url=project.git,
            path=settings.folder(name) / "mirror.git",
            server=project.gerrit,
            on_server=project.name_on_gerrit,
        )
        for name, project in sorted(settings.projects.items())
    )


def matched(server: GerritServer, client: GerritClient) -> tuple[str, ...]:
    """Names of the server's projects that a pattern asks for. Raises GerritError."""
    return tuple(sorted({n for pattern in server.mirror for n in client.project_names(pattern)}))


def beside(settings: Settings, server: GerritServer, names: Iterable[str]) -> Iterator[Mirrored]:
    """The mirrors of projects of a server that are not configured."""
    measured = {one.on_server for one in configured(settings) if one.server == server.name}
    for name in sorted(set(names) - measured):
        yield Mirrored(
            name=f"{server.name}:{name}",
            url=address_of(server, name),
            path=_folder(settings, server) / f"{quote(name, safe='')}{ENDING}",
            server=server.name,
            on_server=name,
            environment=credentials_of(server),
        )


def kept(settings: Settings, server: GerritServer) -> tuple[str, ...]:
    """Names of the projects that a pattern asked for before, whether the server answers or not."""
    if not server.mirror:
        return ()
    found = _folder(settings, server).glob(f"*{ENDING}")
    return tuple(sorted(unquote(path.name.removesuffix(ENDING)) for path in found))


def known(settings: Settings) -> tuple[Mirrored, ...]:
    """All mirrors that are known without asking a server."""
    servers = [settings.gerrit[name] for name in sorted(settings.gerrit)]
    more = (one for server in servers for one in beside(settings, server, kept(settings, server)))
    return (*configured(settings), *more)


def choose(mirrors: Iterable[Mirrored], names: Iterable[str]) -> tuple[Mirrored, ...]:
    """The mirrors of those names, all without any; UsageError for a name that is none's."""
    found = {one.name: one for one in mirrors}
    wanted = tuple(names)
    for name in wanted:
        if name not in found:
            raise UsageError(
                f"There is no mirror {name} (known: {', '.join(found) or 'none'}).",
                advice="Add the project, or a pattern of it to its server's table: mirror = [...]",
            )
    return tuple(found[name] for name in dict.fromkeys(wanted)) or tuple(found.values())


def address_of(server: GerritServer, project: str) -> str:
    """Where git finds a project of the server; below /a/ where it has to say who it is."""
    return f"{server.url}{'/a' if server.user else ''}/{quote(project)}"


def credentials_of(server: GerritServer) -> Mapping[str, str]:
    """Variables that make git send the account's password to this server; ~/.netrc else."""
    if not (server.user and server.password):
        return {}
    word = b64encode(f"{server.user}:{server.password}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{server.url}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {word}",
    }


def _folder(settings: Settings, server: GerritServer) -> Path:
    return settings.state / "mirrors" / quote(server.name, safe="")
