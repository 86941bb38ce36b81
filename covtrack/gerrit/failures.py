"""Why a Gerrit server did not do what it was asked, as errors that say whose fault it is."""

from __future__ import annotations

import re
import socket

import requests

from covtrack.gerrit.settings import GerritServer
from venv_builder.errors import InfrastructureError

LONGEST_REASON = 400
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")


class GerritError(InfrastructureError):
    """A Gerrit server did not do what it was asked; `reason` is its own text, may be empty."""

    def __init__(self, sentence: str, *, advice: str = "", reason: str = "") -> None:
        super().__init__(sentence, advice=advice)
        self.reason = reason


class Unreachable(GerritError):  # noqa: N818  what Gerrit did
    """No answer, a failure of the server itself, or an answer that is none of Gerrit's."""


class Unanswered(Unreachable):
    """No answer came to a request that the server may have taken, and may act on later."""


class Unauthorized(GerritError):  # noqa: N818  what Gerrit did
    """The server does not take the credentials (401)."""


class Refused(GerritError):  # noqa: N818  what Gerrit did
    """The server will not do it: no permission, or a request that it takes for wrong (4xx)."""


class Conflict(GerritError):  # noqa: N818  what Gerrit did
    """The change's state does not allow it (409)."""


class NotFound(GerritError):  # noqa: N818  what Gerrit did
    """There is no such thing, or it is not shown to this account (404)."""


def no_answer(
    server: GerritServer, what: str, error: requests.RequestException, timeout: float
) -> Unreachable:
    """The error for a request that got none; Unanswered where the server may have taken it."""
    cause = _innermost(error)
    problem = f"cannot be reached ({_told(cause)})"
    if isinstance(cause, TimeoutError):
        problem = f"did not answer within {timeout:g} s"
    refused = isinstance(cause, ConnectionRefusedError | socket.gaierror)
    unheard = refused or isinstance(error, requests.ConnectTimeout)
    return _unreachable(server, what, problem, Unreachable if unheard else Unanswered)


def no_sense(server: GerritServer, what: str, error: Exception) -> Unreachable:
    """The error for an answer that cannot be read."""
    problem = f"gave an answer that is none of Gerrit's ({_clean(str(error))})"
    return _unreachable(server, what, problem)


def _unreachable(
    server: GerritServer, what: str, problem: str, kind: type[Unreachable] = Unreachable
) -> Unreachable:
    return kind(
        f"Gerrit server {server.name} {problem} when asked {what}.",
        advice=f"Is {server.url} its address, and does it run?",
    )


def refusal(server: GerritServer, what: str, answer: requests.Response) -> GerritError:
    """The error for an answer of status 400 or more."""
    status, reason = answer.status_code, _reason(answer)
    asked = f"when asked {what} (status {status}{reason and f': {reason}'})"
    name = f"Gerrit server {server.name}"
    if status >= 500 or status in (408, 429):
        kind = Unanswered if status == 504 else Unreachable  # a proxy's time was over
        return kind(f"{name} failed {asked}.", advice="It may do it later.", reason=reason)
    if status == 401:
        who = server.user or "the account of ~/.netrc"
        advice = "The password may be wrong or expired: since 3.13 it is a token that expires."
        return Unauthorized(f"{name} does not let {who} in {asked}.", advice=advice, reason=reason)
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
