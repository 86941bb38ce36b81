"""A small Gerrit of the tests' own: the part of its REST interface that is used, and its faults.

What it answers was compared with Gerrit 3.10.0: the contract tests run on both. It has no git:
`push` changes its state alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from covtrack.gerrit.settings import GerritServer

PASSWORD_VARIABLE = "COVTRACK_FAKE_GERRIT_PASSWORD"
PASSWORD = "fake-secret-of-the-tests"
USER = "admin"
ACCOUNT = {"_account_id": 1000000, "name": "Administrator", "username": USER}
OPERATORS = ("project", "status", "change", "after", "-age")
GARBAGE = b"<html><body>Please log in</body></html>"
Answer = tuple[int, Any]


@dataclass(slots=True, kw_only=True)
class FakeChange:
    """One change as the fake keeps it; `revisions` are RevisionInfos in the order of pushing.

    `spoiled` are fields that it shows instead of its own.
    """

    number: int
    project: str
    change_id: str
    status: str = "NEW"
    updated: str
    skew: Callable[[], float]
    work_in_progress: bool = False
    private: bool = False
    revisions: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    votes: dict[str, int] = field(default_factory=dict)
    spoiled: dict[str, Any] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        """The current patch set's commit."""
        return str(self.revisions[-1]["sha"])

    def shown(self) -> dict[str, Any]:
        """Its ChangeInfo with CURRENT_REVISION and CURRENT_COMMIT."""
        revision = {key: value for key, value in self.revisions[-1].items() if key != "files"}
        answer = {
            "project": self.project,
            "branch": "master",
            "change_id": self.change_id,
            "subject": revision["commit"]["subject"],
            "status": self.status,
            "updated": self.updated,
            "_number": self.number,
            "owner": {"_account_id": 1000000},
            "current_revision": self.sha,
            "revisions": {self.sha: revision},
        }
        flags = {"work_in_progress": True} if self.work_in_progress else {}
        flags |= {"is_private": True} if self.private else {}
        return answer | flags | self.spoiled

    def say(self, text: str, tag: str | None) -> None:
        """Add a message of the one account to the current patch set."""
        self.updated = now(self.skew())
        message = {"author": ACCOUNT, "date": self.updated, "message": text}
        tagged = {"tag": tag} if tag else {}
        self.messages.append({**message, **tagged, "_revision_number": len(self.revisions)})


class FakeGerrit:
    """The server, in threads of this process, from `start` to `stop`.

    `fail_with` is a status, "garbage", "slow" or "reset" for requests from the `fail_after`-th
    on; `log` is what the events-log plugin has (None: no plugin), one JSON text an event, each
    shown where its `eventCreatedOn` is not before t1 by the server's clock, `zone` hours from UTC.
    `requests` are the paths asked for. `slow` is how long, in seconds, it takes over a request
    before it acts on it, `late` how long after that it answers; those of method `slow_method`
    alone where that is set. `skew` is how far, in seconds, its clock is before the true time.
    """

    def __init__(self) -> None:
        self.changes: dict[int, FakeChange] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.labels: dict[str, tuple[int, ...]] = {"Code-Review": (-2, -1, 0, 1, 2)}
        self.known_labels = {"Code-Review"}
        self.fail_with: int | str | None = None
        self.fail_after = 0
        self.log: list[dict[str, Any]] | None = None
        self.log_limit = 5000
        self.zone = 0
        self.page_limit = 500
        self.slow = self.late = self.skew = 0.0
        self.slow_method: str | None = None
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Listen on a free port of loopback."""
        fake = self

        class Handler(FakeHandler):
            gerrit = fake

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """End it, and all answers that are still waiting."""
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def server(self) -> GerritServer:
        """Its settings; PASSWORD has to be in the environment under PASSWORD_VARIABLE."""
        port = self._http.server_address[1]
        return GerritServer(
            name="fake",
            url=f"http://127.0.0.1:{port}",
            user=USER,
            password_env=PASSWORD_VARIABLE,
        )

    def create_project(self, name: str) -> None:
        """A project with one commit on master."""
        self.branches[name] = {"master": sha_of(name)}

    def create_label(self, name: str) -> None:
        """A label that nobody may vote on."""
        self.known_labels.add(name)

    def grant_label(self, name: str) -> None:
        """A label of -1, 0 and +1 that may be voted on."""
        self.create_label(name)
        self.labels[name] = (-1, 0, 1)

    def push(
        self, project: str, change_id: str, files: Mapping[str, str], subject: str = "A change"
    ) -> str:
        """A new change, or the next patch set of the one with that Change-Id; its sha."""
        known = [one for one in self.changes.values() if one.change_id == change_id]
        change = known[0] if known else self._new_change(project, change_id)
        number, before = len(change.revisions) + 1, change.revisions[-1:]
        message = f"{subject}\n\nChange-Id: {change_id}\n"
        sha = sha_of(f"{project}{message}{sorted(files.items())}")
        parent = {"commit": self.branches[project]["master"], "subject": "Initial"}
        same = before and before[0]["files"] == dict(files)
        change.revisions.append(
            {
                "sha": sha,
                "files": dict(files),
                "kind": "NO_CODE_CHANGE" if same else "REWORK",
                "_number": number,
                "ref": f"refs/changes/{change.number % 100:02}/{change.number}/{number}",
                "commit": {"parents": [parent], "subject": subject, "message": message},
            }
        )
        change.say(f"Uploaded patch set {number}.", "autogenerated:gerrit:newPatchSet")
        return sha

    def abandon(self, number: int) -> None:
        """As its owner would."""
        self.changes[number].status = "ABANDONED"
        self.changes[number].say("Abandoned", "autogenerated:gerrit:abandon")

    def restore(self, number: int) -> None:
        """As its owner would."""
        self.changes[number].status = "NEW"
        self.changes[number].say("Restored", "autogenerated:gerrit:restore")

    def hide(self, number: int, *, wip: bool = False, private: bool = False) -> None:
        """Set both ways of keeping a change from reviewers, as its owner would."""
        change = self.changes[number]
        change.work_in_progress, change.private = wip, private
        change.say("Set", "autogenerated:gerrit:setReadyForReview")

    def _new_change(self, project: str, change_id: str) -> FakeChange:
        number = len(self.changes) + 1
        self.changes[number] = FakeChange(
            number=number,
            project=project,
            change_id=change_id,
            updated=now(self.skew),
            skew=lambda: self.skew,
        )
        return self.changes[number]

    def fault(self, path: str) -> int | str | None:
        """What goes wrong with this request."""
        with self._lock:
            self.requests.append(path)
            return self.fail_with if len(self.requests) > self.fail_after else None

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> Answer:
        """Status and answer: text for a failure, bytes as they are, else JSON."""
        for pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and name.startswith(method.lower()):
                words = [unquote(word) for word in found.groups()]
                result: Answer = getattr(self, name)(*words, query=query, body=body)
                return result
        return 404, "Not Found"

    def get_version(self, **_: Any) -> Answer:
        return 200, "3.10.0-fake"

    def get_account(self, **_: Any) -> Answer:
        return 200, ACCOUNT

    def get_changes(self, query: Mapping[str, list[str]], **_: Any) -> Answer:
        """Searches know the operators of `matches` and project:… OR project:…, nothing else."""
        found = sorted(self.changes.values(), key=lambda one: one.updated, reverse=True)
        for group in re.findall(r"\([^)]*\)|\S+:\"[^\"]*\"|\S+", query["q"][0]):
            terms = [term for term in shlex.split(group.strip("()")) if term != "OR"]
            asked = [term.partition(":")[::2] for term in terms]
            if unknown := [f"{name}:{value}" for name, value in asked if name not in OPERATORS]:
                return 400, f"Unsupported operator {unknown[0]}"
            found = [one for one in found if any(matches(one, *term) for term in asked)]
        start, count = int(query.get("S", ["0"])[0]), int(query.get("n", ["500"])[0])
        end = start + min(count, self.page_limit)
        page = [one.shown() for one in found[start:end]]
        if page and len(found) > end:
            page[-1]["_more_changes"] = True
        return 200, page

    def get_change(self, number: str, **_: Any) -> Answer:
        change = self.changes.get(int(number))
        return (200, change.shown()) if change else (404, f"Not found: {number}")

    def get_detail(self, number: str, **_: Any) -> Answer:
        if int(number) not in self.changes:
            return 404, f"Not found: {number}"
        votes = {name: [f"{vote:+d}" for vote in known] for name, known in self.labels.items()}
        votes = {name: [" 0" if vote == "+0" else vote for vote in votes[name]] for name in votes}
        return 200, {**self.changes[int(number)].shown(), "permitted_labels": votes}

    def get_messages(self, number: str, **_: Any) -> Answer:
        change = self.changes.get(int(number))
        return (200, change.messages) if change else (404, f"Not found: {number}")

    def get_comments(self, number: str, **_: Any) -> Answer:
        change = self.changes.get(int(number))
        return (200, change.comments) if change else (404, f"Not found: {number}")

    def post_review(self, number: str, sha: str, body: Any, **_: Any) -> Answer:
        change = self.changes.get(int(number))
        shas = [one["sha"] for one in change.revisions] if change else []
        if change is None or sha not in shas:
            return 404, f"Not found: {sha if change else number}"
        labels = {
            key: vote for key, vote in body.get("labels", {}).items() if key in self.known_labels
        }
        for label, vote in labels.items():
            if vote not in self.labels.get(label, ()):
                return 403, f'Applying label "{label}": {vote} is restricted'
        if labels and change.status != "NEW":
            return 409, "change is closed"
        change.votes.update(labels)
        self._add_comments(change, shas.index(sha) + 1, body)
        head = "".join(f" {label}{vote:+d}" for label, vote in labels.items())
        change.say(f"Patch Set {shas.index(sha) + 1}:{head}\n\n{body['message']}", body.get("tag"))
        return 200, {"labels": labels}

    def _add_comments(self, change: FakeChange, patch_set: int, body: Any) -> None:
        always = {"author": ACCOUNT, "patch_set": patch_set, "updated": now(self.skew)}
        tagged = {"tag": body["tag"]} if "tag" in body else {}
        for path, comments in body.get("comments", {}).items():
            for comment in comments:
                placed = {"line": comment["range"]["end_line"]} if "range" in comment else {}
                shown = {**always, **tagged, **placed, **comment}
                change.comments.setdefault(path, []).append(shown)

    def get_projects(self, query: Mapping[str, list[str]], **_: Any) -> Answer:
        start, count = int(query["S"][0]), int(query["n"][0])
        names = sorted(self.branches)[start : start + min(count, self.page_limit)]
        return 200, {name: {"id": name, "state": "ACTIVE"} for name in names}

    def get_branches(self, project: str, **_: Any) -> Answer:
        if project not in self.branches:
            return 404, f"Not found: {project}"
        always = [{"ref": "HEAD", "revision": "master"}]
        known = self.branches[project].items()
        return 200, always + [
            {"ref": f"refs/heads/{name}", "revision": sha} for name, sha in known
        ]

    def get_events(self, query: Mapping[str, list[str]], **_: Any) -> Answer:
        if self.log is None:
            return 404, "Not Found"
        start = datetime.strptime(query["t1"][0], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        first = start.timestamp() - self.zone * 3600
        found = [event for event in self.log if event.get("eventCreatedOn", first) >= first]
        lines = [json.dumps(event) + "\n" for event in found[: self.log_limit]]
        return 200, "".join(lines).encode()


ROUTES = (
    ("config/server/version", "get_version"),
    ("accounts/self", "get_account"),
    ("changes/", "get_changes"),
    (r"changes/(\d+)", "get_change"),
    (r"changes/(\d+)/detail", "get_detail"),
    (r"changes/(\d+)/messages", "get_messages"),
    (r"changes/(\d+)/comments", "get_comments"),
    (r"changes/(\d+)/revisions/([^/]+)/review", "post_review"),
    ("projects/", "get_projects"),
    (r"projects/([^/]+)/branches/", "get_branches"),
    ("plugins/events-log/events/", "get_events"),
)


class FakeHandler(BaseHTTPRequestHandler):
    """One request: faults first, then credentials, then the answer."""

    protocol_version = "HTTP/1.1"
    gerrit: FakeGerrit

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: Any) -> None:
        address = urlsplit(self.path)
        fault = self.gerrit.fault(self.path)
        if fault == "slow":
            self.gerrit.closing.wait(10)
        if fault in ("slow", "reset"):
            self._reset()
        elif fault == "garbage":
            self._send(200, "text/html", GARBAGE)
        elif isinstance(fault, int):
            self._send(fault, "text/plain;charset=utf-8", b"a fault of the test\n")
        elif self.headers["Authorization"] != f"Basic {encode(f'{USER}:{PASSWORD}')}":
            self._send(401, "text/plain;charset=utf-8", b"Unauthorized")
        else:
            self._take(address.path.removeprefix("/a/"), parse_qs(address.query), body)

    def _take(self, path: str, query: Mapping[str, list[str]], body: Any) -> None:
        """Act on the request and answer, as slowly as is set."""
        slowed = self.gerrit.slow_method in (None, self.command)
        self.gerrit.closing.wait(self.gerrit.slow if slowed else 0)
        answer = self.gerrit.answer(self.command, path, query, body)
        self.gerrit.closing.wait(self.gerrit.late if slowed else 0)
        with suppress(ConnectionError):  # whoever asked may not wait any more
            self._answer(*answer)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The Date of an answer, by the server's own clock."""
        shown = datetime.now(UTC) + timedelta(seconds=self.gerrit.skew)
        return format_datetime(shown, usegmt=True)

    def _answer(self, status: int, answer: Any) -> None:
        if status != 200:
            self._send(status, "text/plain;charset=utf-8", f"{answer}\n".encode())
        elif isinstance(answer, bytes):
            self._send(status, "text/html;charset=utf-8", answer)
        else:
            text = f")]}}'\n{json.dumps(answer)}\n"
            self._send(status, "application/json;charset=utf-8", text.encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        """Drop the connection so that the other side gets a reset."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read `requests`."""


def matches(change: FakeChange, operator: str, value: str) -> bool:
    """Whether a term of a search finds the change."""
    if operator == "project":
        return fnmatchcase(change.project, value)
    if operator == "change":
        return value in (str(change.number), change.change_id)
    if operator == "after":
        return change.updated >= value
    if operator == "-age":
        return value.endswith("d")
    return value == {"NEW": "open", "MERGED": "merged", "ABANDONED": "abandoned"}[change.status]


def sha_of(text: str) -> str:
    """A commit's name that depends on `text` alone."""
    return hashlib.sha1(text.encode()).hexdigest()


def now(skew: float) -> str:
    """The time as Gerrit writes it, by a clock that is `skew` seconds before the true time."""
    return f"{datetime.now(UTC) + timedelta(seconds=skew):%Y-%m-%d %H:%M:%S}.000000000"


def encode(text: str) -> str:
    """Base64, as basic authentication has it."""
    return base64.b64encode(text.encode()).decode()
