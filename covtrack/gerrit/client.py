"""Asks a Gerrit server over REST and posts reviews, as values and as errors that say whose fault.

pygerrit2 keeps the session, the credentials and the addresses. Its own decoding is not used: it
takes an answer that is no JSON for one, and writes it to the log. Addresses and fields are those
of rest-api-*.html in Gerrit's documentation.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
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
from covtrack.gerrit.settings import GerritServer
from covtrack.gerrit.values import ChangeInfo, InlineComment, ReviewMessage
from venv_builder.errors import InfrastructureError, UsageError

# pygerrit2 writes to stderr by a handler of its own.
logging.getLogger("pygerrit2").handlers[:] = [logging.NullHandler()]

PAGE = 500
LONGEST_REASON = 400
OPTIONS = (("o", "CURRENT_REVISION"), ("o", "CURRENT_COMMIT"))
# The events-log takes times of the server's own zone, which nothing tells: anything from 12 h
# behind UTC to 14 h before it.
FARTHEST_ZONE = timedelta(hours=12)
# A log answers 5,000 events at a time, or what is set; a page of fewer than this is its last.
SURELY_WHOLE = 500
Read = TypeVar("Read")
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")


class GerritError(InfrastructureError):
    """A Gerrit server did not do what it was asked; `reason` is its own text, may be empty."""

    def __init__(self, sentence: str, *, advice: str = "", reason: str = "") -> None:
        super().__init__(sentence, advice=advice)
        self.reason = reason


class Unreachable(GerritError):  # noqa: N818  what Gerrit did
    """No answer, a failure of the server itself, or an answer that is none of Gerrit's."""


class Unauthorized(GerritError):  # noqa: N818  what Gerrit did
    """The server does not take the credentials (401)."""


class Refused(GerritError):  # noqa: N818  what Gerrit did
    """The server will not do it: no permission, or a request that it takes for wrong (4xx)."""


class Conflict(GerritError):  # noqa: N818  what Gerrit did
    """The change's state does not allow it (409)."""


class NotFound(GerritError):  # noqa: N818  what Gerrit did
    """There is no such thing, or it is not shown to this account (404)."""


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

    def changes(self, query: str, *, limit: int = 500) -> tuple[ChangeInfo, ...]:
        """At most `limit` changes that Gerrit's search finds, last updated first.

        Changes whose current patch set Gerrit does not show are left out.
        """
        found: dict[int, ChangeInfo] = {}
        done, more = 0, True
        while more and done < limit:
            page = (("q", query), ("n", min(limit - done, PAGE)), ("S", done))
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
        """Post a ReviewInput on the patch set `sha`, once: it may be there after Unreachable."""
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
            cause = _innermost(error)
            problem = f"cannot be reached ({_told(cause)})"
            if isinstance(cause, TimeoutError):
                problem = f"did not answer within {self._timeout:g} s"
            raise self._unreachable(what, problem) from error
        if not answer.ok:
            raise self._failure(what, answer)
        return answer

    def _read(self, what: str, answer: requests.Response, read: Callable[[bytes], Read]) -> Read:
        try:
            return read(answer.content)
        except (ValueError, KeyError) as error:
            problem = f"gave an answer that is none of Gerrit's ({_clean(str(error))})"
            raise self._unreachable(what, problem) from error

    def _unreachable(self, what: str, problem: str) -> Unreachable:
        return Unreachable(
            f"Gerrit server {self._server.name} {problem} when asked {what}.",
            advice=f"Is {self._server.url} its address, and does it run?",
        )

    def _failure(self, what: str, answer: requests.Response) -> GerritError:
        """The error for an answer of status 400 or more."""
        status, reason = answer.status_code, _reason(answer)
        asked = f"when asked {what} (status {status}{reason and f': {reason}'})"
        name = f"Gerrit server {self._server.name}"
        if status >= 500 or status in (408, 429):
            return Unreachable(
                f"{name} failed {asked}.", advice="It may do it later.", reason=reason
            )
        if status == 401:
            who = self._server.user or "the account of ~/.netrc"
            advice = "The password may be wrong or expired: since 3.13 it is a token that expires."
            return Unauthorized(
                f"{name} does not let {who} in {asked}.", advice=advice, reason=reason
            )
        if status == 404:
            return NotFound(
                f"{name} has nothing to show {asked}.",
                advice="It is gone, or the account may not see it.",
                reason=reason,
            )
        if status == 409:
            return Conflict(f"{name} finds a conflict {asked}.", reason=reason)
        advice = "Does the account have the permission?" if status == 403 else ""
        return Refused(f"{name} refused {asked}.", advice=advice, reason=reason)


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
    times = [made for event in page if (made := _made(event, 0.0))]
    if len(page) < SURELY_WHOLE or not times:
        return None
    latest = datetime.fromtimestamp(max(times), UTC)
    passed = timedelta(seconds=max(1.0, max(times) - min(times)))
    return max(start + passed, latest - FARTHEST_ZONE)


def _innermost(error: BaseException) -> BaseException:
    """What a failed connection began with, below requests and urllib3."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _told(error: BaseException) -> str:
    words = error.strerror if isinstance(error, OSError) else str(error)
    return _clean(words or type(error).__name__)


def _reason(answer: requests.Response) -> str:
    """Gerrit's own text of a failure; a page of HTML is none."""
    kind = answer.headers.get("Content-Type", "")
    if not kind.startswith("text/plain"):
        return ""
    return _clean(answer.content.decode(errors="replace"))


def _clean(text: str) -> str:
    """One line of at most 400 characters, without control characters and a full stop."""
    line = CONTROLS.sub(" ", text[: 2 * LONGEST_REASON]).strip().rstrip(".")
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"
