"""Asks a Gerrit server over REST and posts reviews, as values and as errors that say whose fault.

pygerrit2 keeps the session, the credentials and the addresses. Its own decoding is not used: it
takes an answer that is no JSON for one, and writes it to the log. Addresses and fields are those
of rest-api-*.html in Gerrit's documentation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import requests
from pygerrit2 import (  # type: ignore[import-untyped]
    Anonymous,
    GerritRestAPI,
    HTTPBasicAuth,
    HTTPBasicAuthFromNetrc,
)
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from covtrack.gerrit import values
from covtrack.gerrit.failures import NotFound, no_answer, no_sense, refusal
from covtrack.gerrit.settings import GerritServer
from covtrack.gerrit.values import ChangeInfo, InlineComment, ReviewMessage
from venv_builder.errors import UsageError

# pygerrit2 writes to stderr by a handler of its own.
logging.getLogger("pygerrit2").handlers[:] = [logging.NullHandler()]

PAGE = 500
OPTIONS = (("o", "CURRENT_REVISION"), ("o", "CURRENT_COMMIT"))
# The events-log takes times of the server's own zone, which nothing tells: anything from 12 h
# behind UTC to 14 h before it.
FARTHEST_ZONE = timedelta(hours=12)
# A log answers 5,000 events at a time, or what is set; a page of fewer than this is its last.
SURELY_WHOLE = 500
FARTHEST_CLOCK = 366 * 86_400.0  # seconds; what claims to be later tells no time
Read = TypeVar("Read")


class GerritClient:
    """One server, as its account sees it; not for several threads at a time.

    `timeout` is in seconds for a connection and between two parts of an answer. Reading is tried
    three times, posting once. Everything raises GerritError; an account without a password raises
    UsageError when the client is made.
    """

    def __init__(self, server: GerritServer, *, timeout: float = 30.0) -> None:
        self._server = server
        self._timeout = timeout
        retry = Retry(
            total=2,
            backoff_factor=0.3,
            status_forcelist=(500, 502, 503, 504),
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        adapter = HTTPAdapter(max_retries=retry)
        self._rest = GerritRestAPI(server.url, auth=_credentials(server), adapter=adapter)

    def version(self) -> str:
        """The server's version, "(dev)" for one built by hand."""
        return self._get("its version", "config/server/version", values.check_text)

    def clock(self) -> datetime | None:
        """The server's time, to the second; None where its answers have no date."""
        answer = self._send("for its version", "GET", "config/server/version")
        try:
            found = parsedate_to_datetime(answer.headers.get("Date", ""))
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def account(self) -> str:
        """The user name of the client's account, else its number."""

        def read(answer: Any) -> str:
            name = values.find_text(answer, "username")
            return name or str(values.read_number(answer, "_account_id"))

        return self._get("its own account", "accounts/self", read)

    def change(self, number: int) -> ChangeInfo:
        """A change at its current patch set."""
        path = f"changes/{number}?{urlencode(OPTIONS)}"
        return self._get(f"change {number}", path, values.read_change)

    def changes(self, query: str, *, limit: int | None = 500) -> tuple[ChangeInfo, ...]:
        """At most `limit` changes (None: all) that Gerrit's search finds, last updated first.

        Changes whose current patch set Gerrit does not show are left out.
        """
        found: dict[int, ChangeInfo] = {}
        done, more = 0, True
        while more and (limit is None or done < limit):
            size = PAGE if limit is None else min(limit - done, PAGE)
            page = (("q", query), ("n", size), ("S", done))
            path = f"changes/?{urlencode((*page, *OPTIONS))}"
            infos, count, more = self._get("changes", path, _read_page)
            found.update((info.number, info) for info in infos)
            done += count
        return tuple(found.values())

    def events_since(self, moment: datetime) -> tuple[dict[str, Any], ...] | None:
        """Events of the events-log plugin from `moment` on, oldest first; None without it.

        An event that does not say when it was made is among them. Projects are names, as in the
        stream.
        """
        start: datetime | None = moment.astimezone(UTC) - FARTHEST_ZONE
        events: dict[str, dict[str, Any]] = {}
        try:
            while start is not None:
                page = self._logged(start)
                events.update(page)
                start = _next_start(start, page.values())
        except NotFound:
            return None
        since = moment.timestamp()
        return tuple(event for event in events.values() if _made(event, since) >= since)

    def messages(self, number: int) -> tuple[ReviewMessage, ...]:
        """All messages on a change, oldest first."""

        def read(answer: Any) -> tuple[ReviewMessage, ...]:
            return tuple(values.read_message(each) for each in values.check_list(answer))

        return self._get(f"the messages of change {number}", f"changes/{number}/messages", read)

    def comments(self, number: int) -> tuple[InlineComment, ...]:
        """All published comments on a change's patch sets, by path."""

        def read(answer: Any) -> tuple[InlineComment, ...]:
            return tuple(
                values.read_comment(path, each)
                for path in sorted(values.check_object(answer))
                for each in values.read_list(answer, path)
            )

        return self._get(f"the comments on change {number}", f"changes/{number}/comments", read)

    def post_review(self, number: int, sha: str, body: Mapping[str, Any]) -> None:
        """Post a ReviewInput on the patch set `sha`, once.

        It may be there after Unreachable; after Unanswered it may even come later.
        """
        path = f"changes/{number}/revisions/{quote(sha, safe='')}/review"
        what = f"to take a review of change {number}"
        answer = self._send(what, "POST", path, json=dict(body))
        self._read(
            what, answer, lambda content: values.check_object(values.decode_answer(content))
        )

    def labels_allowed(self, number: int) -> Mapping[str, tuple[int, ...]]:
        """The values that the client's account may vote on a change, by label, lowest first."""
        return self._get(
            f"votes on change {number}", f"changes/{number}/detail", values.read_votes
        )

    def project_names(self, pattern: str) -> tuple[str, ...]:
        """Names of the projects with code that match `pattern` (*, ?, [abc]; case counts)."""
        names: set[str] = set()
        while True:
            skip = len(names)
            path = f"projects/?type=CODE&n={PAGE}&S={skip}"
            names |= set(self._get("its projects", path, values.check_object))
            if len(names) == skip:
                return tuple(sorted(name for name in names if fnmatchcase(name, pattern)))

    def branch_tips(self, project: str) -> Mapping[str, str]:
        """The commit of each branch, by its short name."""
        path = f"projects/{quote(project, safe='')}/branches/"

        def read(answer: Any) -> dict[str, str]:
            branches = {values.read_text(each, "ref"): each for each in values.check_list(answer)}
            return {
                ref.removeprefix("refs/heads/"): values.read_sha(branch, "revision")
                for ref, branch in branches.items()
                if ref.startswith("refs/heads/")
            }

        return self._get(f"the branches of {project}", path, read)

    def _logged(self, start: datetime) -> dict[str, dict[str, Any]]:
        """The events of one page of the log, by their own text."""
        what, when = "for its log of events", quote(f"{start:%Y-%m-%d %H:%M:%S}")
        answer = self._send(what, "GET", f"plugins/events-log/events/?t1={when}")
        return self._read(what, answer, _read_log)

    def _get(self, thing: str, path: str, read: Callable[[Any], Read]) -> Read:
        what = f"for {thing}"
        answer = self._send(what, "GET", path)
        return self._read(what, answer, lambda content: read(values.decode_answer(content)))

    def _send(self, what: str, method: str, path: str, **words: Any) -> requests.Response:
        """What the server answers, if it is no failure."""
        arguments = self._rest.translate_kwargs(timeout=self._timeout, **words)
        try:
            answer: requests.Response = self._rest.session.request(
                method, self._rest.make_url(path), **arguments
            )
        except requests.RequestException as error:
            raise no_answer(self._server, what, error, self._timeout) from error
        if not answer.ok:
            raise refusal(self._server, what, answer)
        return answer

    def _read(self, what: str, answer: requests.Response, read: Callable[[bytes], Read]) -> Read:
        try:
            return read(answer.content)
        except (ValueError, KeyError) as error:
            raise no_sense(self._server, what, error) from error


def _credentials(server: GerritServer) -> Any:
    """What pygerrit2 takes as auth; without a user or a password ~/.netrc may give both."""
    if server.user is not None and server.password:
        return HTTPBasicAuth(server.user.encode(), server.password.encode())
    try:
        return HTTPBasicAuthFromNetrc(server.url)
    except ValueError:
        if server.user is None and server.password_env is None:
            return Anonymous()
    table = f"[gerrit.{server.name}]"
    if server.user is None:
        raise UsageError(f"{table} has a password but no user.", advice="Set `user` there.")
    place = (
        f"set the variable {server.password_env}" if server.password_env else "set password_env"
    )
    raise UsageError(
        f"{table} has no password for {server.user}.",
        advice=f"Either {place}, or add the server to ~/.netrc.",
    )


def _read_page(answer: Any) -> tuple[list[ChangeInfo], int, bool]:
    """A page's changes, how many it has with those that show no patch set, and if more follow."""
    answers = [values.check_object(each) for each in values.check_list(answer)]
    infos = [values.read_change(each) for each in answers if "current_revision" in each]
    more = bool(answers) and values.read_flag(answers[-1], "_more_changes")
    return infos, len(answers), more


def _read_log(content: bytes) -> dict[str, dict[str, Any]]:
    lines = [line for line in content.decode().split("\n") if line.strip()]
    return {line: values.read_event(values.decode_answer(line.encode())) for line in lines}


def _made(event: Mapping[str, Any], default: float) -> float:
    """When an event was made, in seconds since 1970; `default` where it does not say."""
    found = event.get("eventCreatedOn")
    return found if isinstance(found, int | float) else default


def _next_start(start: datetime, page: Collection[Mapping[str, Any]]) -> datetime | None:
    """Where the log's next page starts, never after its first event; None after the last page.

    The first event of a page is not before its start, whatever the zone, so that the last one is
    at least as long after the start as after the first one.
    """
    now = datetime.now(UTC).timestamp()
    times = [made for event in page if 0 < (made := _made(event, 0.0)) < now + FARTHEST_CLOCK]
    if len(page) < SURELY_WHOLE or not times:
        return None
    latest = datetime.fromtimestamp(max(times), UTC)
    passed = timedelta(seconds=max(1.0, max(times) - min(times)))
    return max(start + passed, latest - FARTHEST_ZONE)
