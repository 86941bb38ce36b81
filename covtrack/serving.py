"""`covtrack serve`: listeners, dispatch, mirrors, executor and verdicts, each in its own thread.

All state is in the database and the mirrors: the process may be killed at any moment. One such
process works on a state folder at a time.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from filelock import FileLock, Timeout

from covtrack.collecting import Collector
from covtrack.dispatching import handle_events
from covtrack.executor import Executor
from covtrack.gerrit.listener import ServerListener
from covtrack.gerrit.playback import Watched
from covtrack.gerrit.posting import Poster
from covtrack.jenkins.executor import JenkinsExecutor
from covtrack.keeping import Keeper
from covtrack.mirroring import Mirrorer
from covtrack.settings import Settings
from covtrack.store.database import Database
from covtrack.store.queued import Job
from covtrack.store.soleness import Sole
from covtrack.tracking import Tracker
from venv_builder.errors import CovtrackError, UsageError, describe_error
from venv_builder.processes import end_children
from venv_builder.progress import ignore

TICK = 0.2
FIRST_COLLECT_SECONDS = 600.0
COLLECT_SECONDS = 24 * 3600.0


def say(sentence: str) -> None:
    """One line of the log, on stderr, with the time in UTC."""
    line = " ".join(sentence.split())
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")
    sys.stderr.flush()


@dataclass
class Service:
    """The threads of one `covtrack serve`; `listen_only` takes events and does nothing else."""

    settings: Settings
    config: Path | None
    database: Database
    listen_only: bool = False
    say: Callable[[str], None] = say
    delay_after_error: float = 5.0
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    mirrorers: list[Mirrorer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracker = Tracker(self.settings, self.database, ignore)
        self.executors = tuple(self._executors())
        self.listeners = tuple(self._listener(name) for name in sorted(self.settings.gerrit))

    def _listener(self, name: str) -> ServerListener:
        return ServerListener(
            self.settings.gerrit[name],
            watched_on(self.settings, name),
            self.database,
            say=self.say,
            stop=self.stop,
            errors=self.settings.state / f"ssh-{name}.err",
        )

    def _executors(self) -> Iterator[Executor | JenkinsExecutor]:
        """Those that any project's jobs run on."""
        on_jenkins = self.settings.projects_on("jenkins")
        if len(on_jenkins) < len(self.settings.projects) or not on_jenkins:
            yield Executor(self.settings, self.config, self.database, self.say)
        if on_jenkins and not self.listen_only:
            yield build_executor(self.tracker, self.say)

    def start(self) -> None:
        """Start all threads; what a killed process was running is queued again."""
        for listener in self.listeners:
            self._spawn(f"listen {listener.server.name}", listener.run)
        if self.listen_only:
            return
        if found := sum(executor.recover() for executor in self.executors):
            self.say(f"{found} jobs that were running are queued again.")
        projects = tuple(self.settings.projects.values())
        self._repeat("dispatch", lambda: handle_events(self.database, projects))
        for name in sorted(self.settings.gerrit):
            mirrorer = Mirrorer(self.tracker, self.database, self.say, name)
            self.mirrorers.append(mirrorer)
            self._repeat(f"mirror {name}", mirrorer.fetch_new)
            self._repeat(f"post {name}", Poster(self.tracker, self.database, self.say, name).step)
        for only in {project.gerrit for project in projects} | set(self.settings.gerrit):
            keeper = Keeper(self.settings, self.database, self.say, only=[only])
            self._repeat(f"keep {only or 'others'}", keeper.step)
        for executor in self.executors:
            self._repeat(f"execute {type(executor).__name__}", executor.step)
        self._spawn("collect", self._collect)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answer HTTP while the block runs. Raises UsageError where the address is taken."""
        import uvicorn

        from covtrack.http_bounds import BoundedProtocol
        from covtrack.http_endpoint import create_app

        app = create_app(self.settings, self.database, self.listeners, self.unfetched)
        endpoint = listening_socket(self.settings.listen)
        config = uvicorn.Config(
            app, http=BoundedProtocol, log_level="warning", access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([endpoint],), daemon=True)
        thread.start()
        host, port = endpoint.getsockname()[:2]
        self.say(f"HTTP on http://{host}:{port}.")
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(10)

    def unfetched(self) -> Sequence[str]:
        """The projects that cannot be fetched for the time being."""
        return sorted(name for mirrorer in self.mirrorers for name in mirrorer.away)

    def is_sole(self, sole: Sole) -> bool:
        """Whether no other process serves this database; unknown is yes: it is asked again."""
        try:
            sole.check()
        except UsageError as error:
            self.say(str(error))
            return False
        except CovtrackError as error:
            self.say(f"database: {error}")
        return True

    def shut_down(self, patience: float = 15.0) -> None:
        """Stop: running jobs are killed and queued again, nothing is lost.

        Whatever hangs after `patience` seconds is left, and git that hangs is ended.
        """
        self.stop.set()
        deadline = monotonic() + patience
        for thread in self.threads:
            thread.join(max(0.0, deadline - monotonic()))
        if not self.listen_only:
            for executor in self.executors:
                executor.stop()
        end_children("git")

    def _spawn(self, name: str, body: Callable[[], None]) -> None:
        thread = threading.Thread(target=body, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _repeat(self, name: str, step: Callable[[], object]) -> None:
        """Call `step` again and again: at once while it finds something to do."""

        def loop() -> None:
            while not self.stop.is_set():
                try:
                    if not step():
                        self.stop.wait(TICK)
                except Exception as error:  # a thread that ends would stop the work unseen
                    self.say(f"{name}: {describe_error(error)}")
                    self.stop.wait(self.delay_after_error)

        self._spawn(name, loop)

    def _collect(self) -> None:
        """Once a day, beginning a while after the start, remove what is not kept."""
        self.stop.wait(FIRST_COLLECT_SECONDS)
        while not self.stop.is_set():
            try:
                found = Collector(self.tracker, self.settings.keep).run(lambda one: None)
                gone = sum(one.bytes_before - one.bytes_after for one in found)
                self.say(f"Removed what is not kept: {gone:,} bytes.")
            except CovtrackError as error:
                self.say(f"collect: {error}")
            self.stop.wait(COLLECT_SECONDS)


def build_executor(tracker: Tracker, say: Callable[[str], None]) -> JenkinsExecutor:
    """The executor on Jenkins, whose builds do what the tracker orders."""
    from covtrack.ingest import store_bundle
    from covtrack.ordering import order_build

    def order(job: Job, attempt: int) -> tuple[str, str] | None:
        project = tracker.settings.project(job.project)
        made = order_build(tracker, project, job, attempt=attempt)
        return None if made is None else (made.run_id, made.token)

    return JenkinsExecutor(
        tracker.settings,
        tracker.database,
        say,
        order=order,
        store=lambda build, path: store_bundle(tracker, build, path),
    )


def watched_on(settings: Settings, server: str) -> Sequence[Watched]:
    """The projects of a server by their names there, with the branches that are measured."""
    branches: dict[str, set[str]] = {}
    for project in settings.projects.values():
        if project.gerrit == server:
            name = project.name_on_gerrit
            branches.setdefault(name, set()).add(project.branch or "master")
    return [
        Watched(project=name, branches=frozenset(known))
        for name, known in sorted(branches.items())
    ]


def listening_socket(address: str) -> socket.socket:
    """A socket that listens on "host:port". Raises UsageError where that cannot be."""
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), reuse_port=False)
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"covtrack cannot listen on {address}: {error}.",
            advice='Set another address, such as listen = "127.0.0.1:8081", in covtrack.toml.',
        ) from error


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Be the only `covtrack serve` of a state folder; UsageError where there is one."""
    state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(state / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"Another covtrack serve or listen works on {state}.",
            advice="Stop it first, or name another state folder in covtrack.toml.",
        ) from None
    try:
        yield
    finally:
        lock.release()
