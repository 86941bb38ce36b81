"""A real Gerrit of one's own on loopback, for the demo and the tests.

It listens on free ports of 127.0.0.1 alone, has one account (admin), and ends with
the process that started it. It is no place for anybody's real reviews.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import requests
import tomlkit
from platformdirs import user_cache_path

from covtrack.gerrit.local_parts import (
    START_SECONDS,
    gerrit_version,
    java_command,
    make_template,
    missing_parts,
)
from covtrack.gerrit.settings import GerritServer
from covtrack.gerrit.values import decode_answer
from covtrack.java import free_ports
from venv_builder.errors import InfrastructureError
from venv_builder.processes import ProcessGroup, check_command, start_group

USER = "admin"
PASSWORD = "secret"  # noqa: S105  Gerrit's own for its development mode
PASSWORD_VARIABLE = "COVTRACK_LOCAL_GERRIT_PASSWORD"  # noqa: S105
STOP_SECONDS = 10.0


class LocalGerrit:
    """One Gerrit in `folder`, an empty or absent one; as a context manager it starts and ends.

    `name` is what the server is called in messages, `version` one of RELEASES (default: the newest
    that runs here); it ends with the process `starter` (default: this one). An initialised site is
    kept under `cache` (default: the user's cache folder) and copied from then on. Everything
    raises InfrastructureError with what the server said.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "local",
        version: str | None = None,
        starter: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._site = self._folder / "site"
        self._key = self._folder / "id_ed25519"
        self._cache = cache or user_cache_path("covtrack") / "gerrit"
        self._http, self._ssh = free_ports(2)
        self._process: ProcessGroup | None = None
        self._name = name
        self._version = version or gerrit_version()
        self._starter = starter or os.getpid()

    @property
    def server(self) -> GerritServer:
        """Its settings, as a user's file would hold them; the password is in the environment."""
        options = (
            *("-i", str(self._key)),
            *("-o", "IdentitiesOnly=yes"),
            *("-o", "StrictHostKeyChecking=no"),
            *("-o", "UserKnownHostsFile=/dev/null"),
        )
        return GerritServer(
            name=self._name,
            url=f"http://127.0.0.1:{self._http}",
            ssh=f"ssh://{USER}@127.0.0.1:{self._ssh}",
            ssh_options=options,
            user=USER,
            password_env=PASSWORD_VARIABLE,
        )

    def table(self, **more: str) -> str:
        """Its table in covtrack.toml, with more settings where the caller wants them."""
        known = self.server.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        return tomlkit.dumps({"gerrit": {self._name: known | more}})

    @property
    def site(self) -> Path:
        """The folder that Gerrit calls its site; absent before the first start."""
        return self._site

    @property
    def version(self) -> str:
        """The release that it is; the server itself says "(dev)"."""
        return self._version

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the site where there is none, start the server and wait until it answers."""
        os.environ[PASSWORD_VARIABLE] = PASSWORD
        new = not self._site.exists()
        if new:
            self._make_site()
        self._start_daemon()
        if new:
            self.request("POST", "accounts/self/sshkeys", text=_make_key(self._key))
            self._grant({"push": {}, "create": {}})  # 3.13 lets nobody push to a branch at first

    @property
    def runs(self) -> bool:
        """Whether this process started it, and did not stop it."""
        return self._process is not None

    def stop(self) -> None:
        """Ask the server to end, and kill it after 10 seconds."""
        if self._process is not None:
            self._process.kill(STOP_SECONDS)
            self._process = None

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill(0.0)
            self._process = None

    def restart(self) -> None:
        """Stop the server and start it again on the same ports, with all that it knew."""
        self.stop()
        self.start()

    def clone_url(self, project: str) -> str:
        """An address with credentials, to clone from and push to."""
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self._http}/a/{quote(project)}"

    def create_project(self, name: str) -> None:
        """Make a project with an empty first commit on its branch master."""
        self.request("PUT", f"projects/{quote(name, safe='')}", {"create_empty_commit": True})

    def create_label(self, name: str) -> None:
        """Make a label of -1, 0 and +1 on all projects, which nobody may vote on yet."""
        values = {"-1": "Too little", " 0": "Nothing to say", "+1": "Enough"}
        body = {"values": values, "function": "NoBlock", "commit_message": f"Add {name}"}
        self.request("PUT", f"projects/All-Projects/labels/{quote(name, safe='')}", body)

    def grant_label(self, name: str) -> None:
        """Make the label where there is none, and let the administrators vote on it."""
        labels = self.request("GET", "projects/All-Projects/labels/")
        if name not in {label["name"] for label in labels}:
            self.create_label(name)
        self._grant({f"label-{name}": {"min": -1, "max": 1}})

    def _grant(self, rights: Mapping[str, Mapping[str, int]]) -> None:
        """Give the administrators rights on all branches: names, and what their rules add."""
        group = self.request("GET", "groups/?m=Administrators")["Administrators"]["id"]
        permissions: dict[str, dict[str, Any]] = {
            name: {"rules": {group: {"action": "ALLOW", **more}}} for name, more in rights.items()
        }
        for name, permission in permissions.items():
            if name.startswith("label-"):
                permission["label"] = name.removeprefix("label-")
        access = {"refs/heads/*": {"permissions": permissions}}
        self.request("POST", "projects/All-Projects/access", {"add": access})

    def request(
        self, method: str, path: str, body: object = None, *, text: str | None = None
    ) -> Any:
        """What the server answers admin on `path` (after /a/), decoded; None for nothing.

        `body` is sent as JSON, `text` as it is.
        """
        headers = {"Content-Type": "text/plain"} if text is not None else None
        answer = requests.request(
            method,
            f"{self.server.url}/a/{path}",
            auth=(USER, PASSWORD),
            json=body,
            data=text,
            headers=headers,
            timeout=60,
        )
        if not answer.ok:
            raise InfrastructureError(f"The local Gerrit refused {method} {path}: {answer.text}.")
        return decode_answer(answer.content) if answer.content else None

    def _make_site(self) -> None:
        reason = missing_parts(self._version)
        if reason is not None:
            raise InfrastructureError(reason)
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            make_template(self._cache, self._version) / "site", self._site, symlinks=True
        )
        settings = {
            "sshd.listenAddress": f"127.0.0.1:{self._ssh}",
            "httpd.listenUrl": f"http://127.0.0.1:{self._http}/",
            "gerrit.canonicalWebUrl": f"http://127.0.0.1:{self._http}/",
            "sendemail.enable": "false",
        }
        for key, value in settings.items():
            check_command(["git", "config", "-f", self._site / "etc/gerrit.config", key, value])

    def _start_daemon(self) -> None:
        run = uuid4().hex
        words = ("Daemon", "-d", self._site, "--console-log", "--headless", f"--run-id={run}")
        log = self._folder / "daemon.log"
        template = make_template(self._cache, self._version)
        self._process = start_group(
            [*java_command(template, self._version, self._starter), *words],
            cwd=self._folder,
            env=dict(os.environ),
            stdout=self._folder / "daemon.out",
            stderr=log,
        )
        deadline = monotonic() + START_SECONDS
        while not self._is_ready(run):
            if self._process.poll() is not None or monotonic() > deadline:
                words_of_log = log.read_text(errors="replace")[-600:].strip()
                raise InfrastructureError(f"The local Gerrit did not start: {words_of_log}.")
            sleep(0.1)

    def _is_ready(self, run: str) -> bool:
        """Gerrit writes the run's name to this file as soon as it takes requests."""
        try:
            return (self._site / "logs/gerrit.run").read_text().strip() == run
        except OSError:
            return False


def _make_key(path: Path) -> str:
    """Make an ed25519 key without a passphrase, and return its public part."""
    check_command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "covtrack", "-f", path])
    return path.with_suffix(".pub").read_text()
