"""Why a Jenkins did not do what it was asked, as errors that say whose fault it is."""

from __future__ import annotations

import html
import re

import requests
from jenkins import TimeoutException

from covtrack.jenkins.settings import JenkinsServer
from venv_builder.errors import InfrastructureError

LONGEST_REASON = 300
BLANKS = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")
# What the page of a failure says it is: Jenkins' headings, and "Exception: …" of older ones.
TOLD = (
    re.compile(r"Exception: ?(.*?)<br", re.DOTALL),
    re.compile(r"<h1[^>]*>(?:Error|Oops!)?</h1>\s*<p>(.*?)</p>", re.DOTALL),
    re.compile(r"<title>(.*?)</title>", re.DOTALL),
)


class JenkinsError(InfrastructureError):
    """Jenkins did not do what it was asked; `reason` is its own text, may be empty."""

    def __init__(self, sentence: str, *, advice: str = "", reason: str = "") -> None:
        super().__init__(sentence, advice=advice)
        self.reason = reason


class Unreachable(JenkinsError):  # noqa: N818  what Jenkins did
    """No answer, a failure of the server (it may be starting), or an answer without sense."""


class Unauthorized(JenkinsError):  # noqa: N818  what Jenkins did
    """The server does not take the credentials (401)."""


class Refused(JenkinsError):  # noqa: N818  what Jenkins did
    """The server will not do it: no permission, or a request that it takes for wrong (4xx)."""


class NotFound(JenkinsError):  # noqa: N818  what Jenkins did
    """There is no such thing, or it is not shown to this account (404)."""


def explain(server: JenkinsServer, what: str, error: BaseException) -> JenkinsError:
    """The error for what python-jenkins or requests raised when Jenkins was asked `what`.

    python-jenkins hides the answer's status behind its own exceptions: the first one knows it.
    """
    for one in _chain(error):
        if isinstance(one, requests.HTTPError) and one.response is not None:
            return refusal(server, what, one.response)
    found = next(
        (one for one in _chain(error) if isinstance(one, requests.RequestException)), None
    )
    if isinstance(error, TimeoutException) or isinstance(found, requests.Timeout):
        return _unreachable(server, what, f"did not answer within {server.timeout:g} s")
    if isinstance(found, requests.ConnectionError):
        return _unreachable(server, what, f"cannot be reached ({_innermost(found)})")
    return _unreachable(server, what, f"gave an answer that makes no sense ({_clean(str(error))})")


def refusal(server: JenkinsServer, what: str, answer: requests.Response) -> JenkinsError:
    """The error for an answer of status 400 or more."""
    status, reason = answer.status_code, _reason(answer)
    told = f"{server.url} when asked {what} (status {status}{reason and f': {reason}'})"
    words = f"Jenkins at {told}."
    if status >= 500 or status in (408, 429):
        return Unreachable(f"Failure of {words}", advice="It may do it later.", reason=reason)
    if status == 401:
        advice = "Is the API token right, and still valid?"
        who = server.user or "anybody"
        sentence = f"{who} is not let in by {words}"
        return Unauthorized(sentence, advice=advice, reason=reason)
    if status == 404:
        advice = "It is gone, or the account may not see it."
        return NotFound(f"Nothing is shown by {words}", advice=advice, reason=reason)
    advice = "Does the account have the permission?" if status == 403 else ""
    return Refused(f"Refused by {words}", advice=advice, reason=reason)


def _unreachable(server: JenkinsServer, what: str, problem: str) -> Unreachable:
    return Unreachable(
        f"Jenkins at {server.url} {problem} when asked {what}.",
        advice="Is that its address, and does it run?",
    )


def _chain(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None:
        found.append(cause)
    return found


def _innermost(error: BaseException) -> str:
    cause = _chain(error)[-1]
    words = cause.strerror if isinstance(cause, OSError) else str(cause)
    return _clean(words or type(cause).__name__)


def _reason(answer: requests.Response) -> str:
    """Jenkins' own text of a failure: the header X-Error, or what its page is about."""
    if told := answer.headers.get("X-Error"):
        return _clean(told)
    try:
        text = answer.content[:20_000].decode(errors="replace")
    except requests.RequestException:
        return ""
    if "html" not in answer.headers.get("Content-Type", ""):
        return _clean(text)
    found = next((match[1] for pattern in TOLD if (match := pattern.search(text))), "")
    return _clean(html.unescape(re.sub(r"<[^>]*>", "", found)))


def _clean(text: str) -> str:
    """One line of at most 300 characters, without a full stop."""
    line = BLANKS.sub(" ", text[: 2 * LONGEST_REASON]).strip().rstrip(".")
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"
