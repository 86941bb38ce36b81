"""A small Jenkins of the tests' own: today's part of its interface that is used, and its faults.

Its agents run the shell steps of its jobs for real. What differs from Hudson 1.395, on which the
contract tests run too: queue items with numbers and Location headers, forgotten after a while;
folders; accounts with API tokens and with passwords, which need crumbs that expire.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import tempfile
import threading
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from covtrack.jenkins.settings import JenkinsServer
from venv_builder.processes import ProcessGroup, start_group

USER, TOKEN, PASSWORD = "ci", "11aa-token-of-the-tests", "password-of-the-tests"
TOKEN_VARIABLE = "COVTRACK_FAKE_JENKINS_TOKEN"
CRUMB = "Jenkins-Crumb"
FOLDER = "com.cloudbees.hudson.plugins.folder.Folder"
Answer = tuple[int, Any, dict[str, str]]


@dataclass
class FakeItem:
    """A build that waits, or waited until `left`."""

    number: int
    job: str
    parameters: dict[str, str]
    build: int | None = None
    cancelled: bool = False
    left: float | None = None

    def shown(self, url: str) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "_class": "hudson.model.Queue$LeftItem",
            "id": self.number,
            "actions": shown_parameters(self.parameters),
            "why": None if self.left else "Waiting for next available executor on 'covtrack'",
        }
        if self.left:
            answer["cancelled"] = self.cancelled
        if self.build is not None:
            path = f"{url}/{path_of(self.job)}/{self.build}/"
            answer["executable"] = {"number": self.build, "url": path}
        return answer


NO_NODE_SECONDS = 0.05  # a server tells of a build before it says on which node


@dataclass
class FakeBuild:
    """A build and the process of its shell step; `died` says that its agent did."""

    number: int
    job: str
    parameters: dict[str, str]
    agent: str
    folder: Path
    group: ProcessGroup
    began: float = field(default_factory=time)
    result: str | None = None
    artifacts: tuple[str, ...] = ()
    died: bool = False
    stopped: bool = False

    def shown(self, url: str) -> dict[str, Any]:
        return {
            "_class": "hudson.model.FreeStyleBuild",
            "number": self.number,
            "building": self.result is None,
            "result": self.result,
            "url": f"{url}/{path_of(self.job)}/{self.number}/",
            "builtOn": self.agent if time() - self.began > NO_NODE_SECONDS else None,
            "timestamp": int(self.began * 1000),
            "artifacts": [{"relativePath": one, "fileName": one} for one in self.artifacts],
            "actions": shown_parameters(self.parameters),
        }


class FakeJenkins:
    """The server, in threads of this process, from `start` to `stop`.

    `fail_with` is a status, "garbage", "slow" or "reset" for requests whose method is
    `fail_method` (None: any), from the `fail_after`-th on. `forget_after` is how long, in seconds,
    a queue item is known after it left the queue. `crumbs` says whether passwords need a crumb;
    those made before `expire_crumbs` hold no more. `hold` keeps everything in the queue.
    `taken_unanswered` queues a build and then drops the connection. `spoiled_queue` is
    told instead of the queue. `requests` are what came.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.items: dict[int, FakeItem] = {}
        self.started: dict[str, list[FakeBuild]] = {}
        self.agents: dict[str, bool] = {"agent1": True, "agent2": True}
        self.fail_with: int | str | None = None
        self.fail_method: str | None = None
        self.fail_after = 0
        self.forget_after = 300.0
        self.crumbs = True
        self.hold = False
        self.taken_unanswered = False
        self.spoiled_queue: Any = None
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.valid_crumbs: set[str] = set()
        self.closing = threading.Event()
        self.lock = threading.RLock()
        self.folder = Path(tempfile.mkdtemp(prefix="fake-jenkins-"))

    def start(self) -> None:
        """Listen on a free port of loopback, and begin to build."""
        fake = self

        class Handler(FakeHandler):
            jenkins = fake

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """End it with all that runs."""
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        with self.lock:
            for build in self._running():
                build.group.kill(0.0)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def server(self) -> JenkinsServer:
        """Its settings; TOKEN or PASSWORD has to be in the environment under TOKEN_VARIABLE."""
        return JenkinsServer(url=self.url, user=USER, token_env=TOKEN_VARIABLE, timeout=10)

    def kill_agent(self, name: str) -> None:
        """As a machine that loses its power: its builds fail, and leave nothing."""
        with self.lock:
            self.agents[name] = False
            for build in self._running():
                if build.agent == name:
                    build.died = True
                    build.group.kill(0.0)

    def start_agent(self, name: str) -> None:
        """It is back."""
        self.agents[name] = True

    def crash(self) -> None:
        """Forget the queue and what runs, as a server that is killed and started again."""
        with self.lock:
            for build in self._running():
                build.group.kill(0.0)
                self.started[build.job].remove(build)
            self.items = {}

    def expire_crumbs(self) -> None:
        """No crumb given so far holds any more."""
        self.valid_crumbs.clear()

    def _running(self) -> list[FakeBuild]:
        builds = [build for builds in self.started.values() for build in builds]
        return [build for build in builds if build.result is None]

    def _work(self) -> None:
        while not self.closing.is_set():
            with self.lock, suppress(OSError, KeyError):
                for build in self._running():
                    if build.group.poll() is not None:
                        self._finish(build)
                for item in sorted(self._waiting(), key=lambda one: one.number):
                    self._begin(item)
            sleep(0.02)

    def _waiting(self) -> list[FakeItem]:
        return [item for item in self.items.values() if item.left is None]

    def _begin(self, item: FakeItem) -> None:
        busy = {build.agent for build in self._running()}
        free = [name for name, online in self.agents.items() if online and name not in busy]
        if not free or self.hold:
            return
        builds = self.started.setdefault(item.job, [])
        number = len(builds) + 1
        folder = self.folder / f"{number}-{secrets.token_hex(4)}"
        folder.mkdir()
        command = ET.fromstring(self.jobs[item.job]).findtext(".//hudson.tasks.Shell/command")
        group = start_group(
            ["sh", "-xe", "-c", command or ""],
            cwd=folder,
            env=os.environ | item.parameters | {"WORKSPACE": str(folder)},
            stdout=folder / ".out",
            stderr=folder / ".log",
        )
        builds.append(FakeBuild(number, item.job, item.parameters, free[0], folder, group))
        item.build, item.left = number, monotonic()

    def _finish(self, build: FakeBuild) -> None:
        archived = ET.fromstring(self.jobs[build.job]).findtext(".//artifacts") or ""
        names = [name.strip() for name in archived.split(",")]
        if not build.died:
            build.artifacts = tuple(name for name in names if (build.folder / name).is_file())
        build.result = "ABORTED" if build.stopped else "FAILURE"
        if build.group.status == 0:
            build.result = "SUCCESS"

    def fault(self, method: str, path: str) -> int | str | None:
        with self.lock:
            self.requests.append((method, path))
            asked = self.fail_method in (None, method)
            return self.fail_with if asked and len(self.requests) > self.fail_after else None

    def answer(
        self, method: str, path: str, query: Mapping[str, list[str]], body: bytes
    ) -> Answer:
        with self.lock:
            now = monotonic()
            for number, item in tuple(self.items.items()):
                if item.left and now - item.left > self.forget_after:
                    del self.items[number]
            for pattern, name in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and name.startswith(method.lower()):
                    words = [unquote(word) for word in found.groups()]
                    result: Answer = getattr(self, name)(*words, query=query, body=body)
                    return result
        return not_found()

    def get_root(self, **_: Any) -> Answer:
        return 200, {"mode": "NORMAL"}, {}

    def get_me(self, **_: Any) -> Answer:
        return 200, {"id": USER}, {}

    def get_crumb(self, **_: Any) -> Answer:
        if not self.crumbs:
            return not_found()
        crumb = secrets.token_hex(8)
        self.valid_crumbs.add(crumb)
        return 200, {"crumb": crumb, "crumbRequestField": CRUMB}, {}

    def get_queue(self, **_: Any) -> Answer:
        shown = {"items": [one.shown(self.url) for one in self._waiting()]}
        return 200, shown if self.spoiled_queue is None else self.spoiled_queue, {}

    def get_item(self, number: str, **_: Any) -> Answer:
        item = self.items.get(int(number))
        return (200, item.shown(self.url), {}) if item else not_found()

    def post_cancel(self, query: Mapping[str, list[str]], **_: Any) -> Answer:
        item = self.items.get(int(query["id"][0]))
        if item and item.left is None:
            item.left, item.cancelled = monotonic(), True
        return not_found()  # JENKINS-21311

    def get_agents(self, **_: Any) -> Answer:
        shown = [
            {"displayName": name, "offline": not online, "numExecutors": 1}
            for name, online in self.agents.items()
        ]
        return 200, {"computer": shown}, {}

    def post_build(self, job: str, query: Mapping[str, list[str]], body: bytes) -> Answer:
        job = name_of(job)
        if job not in self.jobs:
            return not_found()
        given = {key: value[0] for key, value in parse_qs(body.decode()).items()}
        xml = ET.fromstring(self.jobs[job])
        known = [one.findtext("name") or "" for one in xml.findall(".//parameterDefinitions/*")]
        parameters = {name: given.get(name, "") for name in known}
        for item in self._waiting():  # identical ones become one
            if item.parameters == parameters and item.job == job:
                return 201, "", {"Location": f"{self.url}/queue/item/{item.number}/"}
        number = max(self.items, default=0) + 1
        self.items[number] = FakeItem(number, job, parameters)
        if self.taken_unanswered:
            raise ConnectionError
        return 201, "", {"Location": f"{self.url}/queue/item/{number}/"}

    def post_plain_build(self, job: str, **_: Any) -> Answer:
        return 400, "<h1>Oops!</h1><p>This job is parameterized</p>", {}

    def get_job(self, job: str, query: Mapping[str, list[str]], **_: Any) -> Answer:
        job = name_of(job)
        if job not in self.jobs:
            return not_found()
        builds = [one.shown(self.url) for one in reversed(self.started.get(job, []))]
        if "allBuilds" in query.get("tree", [""])[0]:
            return 200, {"allBuilds": builds}, {}
        return 200, {"builds": builds[:100]}, {}

    def _build(self, job: str, number: str) -> FakeBuild | None:
        builds = self.started.get(name_of(job), [])
        return next((one for one in builds if one.number == int(number)), None)

    def get_build(self, job: str, number: str, **_: Any) -> Answer:
        build = self._build(job, number)
        return (200, build.shown(self.url), {}) if build else not_found()

    def post_stop(self, job: str, number: str, **_: Any) -> Answer:
        build = self._build(job, number)
        if build is None:
            return not_found()
        if build.result is None:
            build.stopped = True
            build.group.kill(0.0)
        return 200, "", {}

    def get_console(self, job: str, number: str, **_: Any) -> Answer:
        build = self._build(job, number)
        if build is None:
            return not_found()
        out = (build.folder / ".log").read_bytes() + (build.folder / ".out").read_bytes()
        return 200, out, {}

    def get_artifact(self, job: str, number: str, path: str, **_: Any) -> Answer:
        build = self._build(job, number)
        if build is None or path not in build.artifacts:
            return not_found()
        return 200, (build.folder / path).read_bytes(), {}

    def get_config(self, job: str, **_: Any) -> Answer:
        found = self.jobs.get(name_of(job))
        # Today's Jenkins says XML 1.1, which Python's parser refuses, and names its plugins.
        head = "<?xml version='1.1' encoding='UTF-8'?>\n"
        return (200, f"{head}{found}".encode(), {}) if found else not_found()

    def post_config(self, job: str, body: bytes, **_: Any) -> Answer:
        if name_of(job) not in self.jobs:
            return not_found()
        self.jobs[name_of(job)] = stored(body)
        return 200, "", {}

    def post_create(self, folder: str, query: Mapping[str, list[str]], body: bytes) -> Answer:
        path = f"{name_of(folder)}/{query['name'][0]}".strip("/")
        above = path.rpartition("/")[0]
        if above and FOLDER not in self.jobs.get(above, ""):
            return not_found()
        if path in self.jobs:
            words = f"A job already exists with the name {query['name'][0]}"
            return 400, "", {"X-Error": words.encode().decode("latin-1")}
        self.jobs[path] = stored(body)
        return 200, "", {}

    def post_delete(self, job: str, **_: Any) -> Answer:
        if self.jobs.pop(name_of(job), None) is None:
            return not_found()
        self.started.pop(name_of(job), None)
        return 302, "", {"Location": f"{self.url}/api/json"}


JOB = "((?:job/[^/]+/?)+?)"
ROUTES = (
    ("api/json", "get_root"),
    ("me/api/json", "get_me"),
    ("crumbIssuer/api/json", "get_crumb"),
    ("queue/api/json", "get_queue"),
    (r"queue/item/(\d+)/api/json", "get_item"),
    ("queue/cancelItem", "post_cancel"),
    ("computer/api/json", "get_agents"),
    (f"{JOB}/buildWithParameters", "post_build"),
    (f"{JOB}/build", "post_plain_build"),
    (f"{JOB}/api/json", "get_job"),
    (rf"{JOB}/(\d+)/api/json", "get_build"),
    (rf"{JOB}/(\d+)/stop", "post_stop"),
    (rf"{JOB}/(\d+)/consoleText", "get_console"),
    (rf"{JOB}/(\d+)/artifact/(.+)", "get_artifact"),
    (f"{JOB}/config.xml", "get_config"),
    (f"{JOB}/config.xml", "post_config"),
    (r"((?:job/[^/]+/)*)createItem", "post_create"),
    (f"{JOB}/doDelete", "post_delete"),
)


class FakeHandler(BaseHTTPRequestHandler):
    """One request: faults first, then credentials and crumb, then the answer."""

    protocol_version = "HTTP/1.1"
    jenkins: FakeJenkins

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.jenkins.bodies.append(body)
        address = urlsplit(self.path)
        fault = self.jenkins.fault(self.command, self.path)
        try:
            if fault == "slow":
                self.jenkins.closing.wait(10)
            if fault in ("slow", "reset"):
                raise ConnectionError
            if fault == "garbage":
                self._send(200, b"<html>Please log in</html>", {})
            elif isinstance(fault, int):
                self._send(fault, b"<h1>Error</h1><p>a fault of the test</p>", {})
            elif (refused := self._refusal()) is not None:
                self._send(*refused)
            else:
                path, query = address.path.lstrip("/"), parse_qs(address.query)
                status, answer, headers = self.jenkins.answer(self.command, path, query, body)
                content = answer if isinstance(answer, bytes) else encoded(answer)
                self._send(status, content, headers)
        except ConnectionError:
            self.close_connection = True

    def _refusal(self) -> tuple[int, bytes, dict[str, str]] | None:
        given = self.headers.get("Authorization", "")
        if given == f"Basic {basic(TOKEN)}":
            return None
        if given != f"Basic {basic(PASSWORD)}":
            return 401, b"<title>Error 401 Unauthorized</title>", {}
        crumb = self.headers.get(CRUMB)
        if (
            self.jenkins.crumbs
            and self.command == "POST"
            and crumb not in (self.jenkins.valid_crumbs)
        ):
            words = "No valid crumb was included in the request"
            return 403, f"<title>Error 403 {words}</title>".encode(), {}
        return None

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        kind = "application/json" if content.startswith(b"{") else "text/html;charset=utf-8"
        for key, value in {"Content-Type": kind, "X-Jenkins": "2.516.3", **headers}.items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read `requests`."""


def shown_parameters(parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    """As Jenkins shows them: those of kind password without their value."""
    shown = [
        {"name": name} if "TOKEN" in name else {"name": name, "value": value}
        for name, value in parameters.items()
    ]
    return [{"_class": "hudson.model.ParametersAction", "parameters": shown}, {}]


def stored(body: bytes) -> str:
    """A job's XML as Jenkins keeps it: what it adds is added."""
    root = ET.fromstring(body)
    for one in root.iter("defaultValue"):
        one.text = one.text or None
    if root.tag == "project":
        ET.SubElement(root, "blockBuildWhenDownstreamBuilding").text = "false"
    return ET.tostring(root, encoding="unicode")


def path_of(job: str) -> str:
    return "/".join(f"job/{part}" for part in job.split("/"))


def name_of(path: str) -> str:
    """ "job/a/job/b" is a/b."""
    return "/".join(path.strip("/").split("/")[1::2])


def not_found() -> Answer:
    return 404, "<title>Error 404 Not Found</title>", {}


def encoded(answer: Any) -> bytes:
    return answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()


def basic(secret: str) -> str:
    return base64.b64encode(f"{USER}:{secret}".encode()).decode()
