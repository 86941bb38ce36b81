"""A real Gerrit of one's own on loopback, for the demo and the tests.

The server comes from Maven Central: two jars of Gerrit hold all of it but the web interface and
the plugins. It listens on free ports of 127.0.0.1 alone, has one account (admin), and ends with
the process that started it. It is no place for anybody's real reviews.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import requests
from platformdirs import user_cache_path

from covtrack.gerrit.settings import GerritServer
from covtrack.gerrit.values import decode_answer
from venv_builder.errors import InfrastructureError
from venv_builder.processes import ProcessGroup, check_command, run_command, start_group

USER = "admin"
PASSWORD = "secret"  # noqa: S105  Gerrit's own for its development mode
PASSWORD_VARIABLE = "COVTRACK_LOCAL_GERRIT_PASSWORD"  # noqa: S105
START_SECONDS = 120.0
STOP_SECONDS = 10.0
FETCH_SECONDS = 300.0
BOUNCY_CASTLE = ("bcprov", "bcpg", "bcutil", "bcpkix")
TOOLS = ("java", "javac", "mvn", "git", "ssh", "ssh-keygen")
# Raised when what lies in the template's folder changes.
TEMPLATE_FORMAT = 1
JVM = (
    "-Xmx768m",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.invoke=ALL-UNNAMED",
)
# The jars' own main class is not Gerrit's. A server whose starter died must not stay behind.
LAUNCHER = """\
public class Launcher {
    public static void main(String[] words) throws Exception {
        long starter = Long.getLong("covtrack.starter");
        ProcessHandle.of(starter).orElseThrow().onExit()
            .thenRun(() -> Runtime.getRuntime().halt(1));
        Class<?> program = Class.forName("com.google.gerrit.pgm." + words[0]);
        Object made = program.getDeclaredConstructor().newInstance();
        Object rest = java.util.Arrays.copyOfRange(words, 1, words.length);
        System.exit((int) program.getMethod("main", String[].class).invoke(made, rest));
    }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One jar of Maven Central."""

    group: str
    name: str
    version: str

    @property
    def coordinates(self) -> str:
        """As Maven's command line takes it."""
        return f"{self.group}:{self.name}:{self.version}"

    @property
    def path(self) -> Path:
        """Where the jar lies once fetched, in the user's local Maven repository."""
        folder = _maven_repository() / self.group.replace(".", "/") / self.name
        return folder / self.version / f"{self.name}-{self.version}.jar"

    def fetch(self) -> None:
        """Have Maven fetch it where it is not there; raises InfrastructureError."""
        if self.path.is_file():
            return
        words = ("mvn", "-q", "-B", "dependency:get", f"-Dartifact={self.coordinates}")
        place = f"-Dmaven.repo.local={_maven_repository()}"  # Java's home is not always $HOME
        check_command([*words, "-Dtransitive=false", place], timeout=FETCH_SECONDS)
        if not self.path.is_file():
            raise InfrastructureError(f"Maven fetched {self.coordinates}, but not to {self.path}.")


def _maven_repository() -> Path:
    return Path.home() / ".m2/repository"


def missing_parts() -> str | None:
    """What keeps a local Gerrit from running here, as one sentence; None where all is there.

    Fetches the jars where they are not in the local Maven repository (80 MB, once).
    """
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"A local Gerrit needs {tool}, which is not installed."
    release = _java_release()
    if release < 17:
        return f"A local Gerrit needs Java 17 or newer, and java is {release}."
    try:
        for artifact in _artifacts(release):
            artifact.fetch()
    except InfrastructureError as error:
        return f"Gerrit's jars cannot be fetched: {error}"
    return None


class LocalGerrit:
    """One Gerrit in `folder`, an empty or absent one; as a context manager it starts and ends.

    `name` is what the server is called in messages. An initialised site is kept under `cache`
    (default: the user's cache folder) and copied from then on. Everything raises
    InfrastructureError with what the server said.
    """

    def __init__(self, folder: Path, *, name: str = "local", cache: Path | None = None) -> None:
        self._folder = folder.resolve()
        self._site = self._folder / "site"
        self._key = self._folder / "id_ed25519"
        self._cache = cache or user_cache_path("covtrack") / "gerrit"
        self._http, self._ssh = _free_ports()
        self._process: ProcessGroup | None = None
        self._name = name

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

    @property
    def version(self) -> str:
        """The release that it is; the server itself says "(dev)"."""
        return _gerrit_version(_java_release())

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
        groups = self.request("GET", "groups/?m=Administrators")
        rule = {"action": "ALLOW", "min": -1, "max": 1}
        permission = {"label": name, "rules": {groups["Administrators"]["id"]: rule}}
        access = {"refs/heads/*": {"permissions": {f"label-{name}": permission}}}
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
        reason = missing_parts()
        if reason is not None:
            raise InfrastructureError(reason)
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(_template(self._cache) / "site", self._site, symlinks=True)
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
        self._process = start_group(
            [*_java(_template(self._cache)), *words],
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


def _template(cache: Path) -> Path:
    """The folder with an initialised site and the compiled launcher, made when first asked for."""
    folder = cache / f"{_gerrit_version(_java_release())}-{TEMPLATE_FORMAT}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as name:
        new = Path(name) / "template"
        new.mkdir()
        (new / "Launcher.java").write_text(LAUNCHER)
        check_command(["javac", "Launcher.java"], cwd=new)
        init = ("Init", "-d", new / "site", "--batch", "--dev", "--no-auto-start")
        check_command([*_java(new), *init], cwd=new, timeout=START_SECONDS)
        try:
            new.rename(folder)
        except OSError:  # Somebody else was quicker.
            if not folder.is_dir():
                raise
    return folder


def _java(template: Path) -> list[str]:
    """The words that start one of Gerrit's programs, its name and arguments still to come."""
    jars = [str(artifact.path) for artifact in _artifacts(_java_release())]
    path = os.pathsep.join([*jars, str(template)])
    return ["java", *JVM, f"-Dcovtrack.starter={os.getpid()}", "-cp", path, "Launcher"]


def _artifacts(release: int) -> list[Artifact]:
    version = _gerrit_version(release)
    gerrit = [
        Artifact(group="com.google.gerrit", name=name, version=version)
        for name in ("gerrit-acceptance-framework", "gerrit-plugin-api")
    ]
    crypto = [
        Artifact(group="org.bouncycastle", name=f"{name}-jdk18on", version="1.79")
        for name in BOUNCY_CASTLE
    ]
    return gerrit + crypto


def _gerrit_version(release: int) -> str:
    return "3.13.0" if release >= 21 else "3.10.0"


def _java_release() -> int:
    """The feature release of java on PATH (8, 17, 21); 0 where it tells none."""
    found = re.search(r'version "(?:1\.)?(\d+)', run_command(["java", "-version"]).stderr)
    return int(found[1]) if found else 0


def _make_key(path: Path) -> str:
    """Make an ed25519 key without a passphrase, and return its public part."""
    check_command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "covtrack", "-f", path])
    return path.with_suffix(".pub").read_text()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])
