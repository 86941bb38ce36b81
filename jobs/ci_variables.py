"""What the environment of a build says that is to be measured. Pure.

Four dialects: covtrack's own, those of the Jenkins plugins gerrit-trigger and gerrit-code-review,
and that of Zuul's launchers. What is there but makes no sense is told, never guessed.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from venv_builder.errors import UsageError

TRACKER, RUN_ID, RUN_TOKEN = "COVTRACK_TRACKER", "COVTRACK_RUN_ID", "COVTRACK_RUN_TOKEN"
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REF = re.compile(r"refs/[^\s:*?\[\\^~]+")
_BRANCH = re.compile(r"[^\s:*?\[\\^~-][^\s:*?\[\\^~]*")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SCHEMES = ("http", "https", "ssh", "git")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_LONGEST = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerRun:
    """A run of a tracker, as its build's parameters name it."""

    tracker: str
    run_id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a build is for; `source` names who says so, None is what it does not say.

    `branch` is where a change is to land, or what was updated; `address` is where git may find the
    project; `message` is the change's commit message.
    """

    source: str
    project: str
    branch: str
    commit: str
    ref: str | None = None
    address: str | None = None
    change: int | None = None
    patch_set: int | None = None
    message: str | None = None


def read_tracker_run(environ: Mapping[str, str]) -> TrackerRun | None:
    """The tracker's run that covtrack's own variables name; None where there is none of them.

    Raises UsageError where only some are set, or one makes no sense.
    """
    found = {name: environ.get(name, "").strip() for name in (TRACKER, RUN_ID, RUN_TOKEN)}
    missing = [name for name, value in found.items() if not value]
    if len(missing) == len(found):
        return None
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} is not set, though covtrack's other variables are.",
            advice="A build of the tracker's has all three; a step without a tracker has none.",
        )
    if scheme_of(found[TRACKER]) not in ("http", "https"):
        raise UsageError(f"{TRACKER} is no address that begins with http:// or https://.")
    _check(RUN_ID, found[RUN_ID], _RUN)
    if not found[RUN_TOKEN].isascii() or not found[RUN_TOKEN].isprintable():
        raise UsageError(f"{RUN_TOKEN} is no token of a run.")
    return TrackerRun(tracker=found[TRACKER], run_id=found[RUN_ID], token=found[RUN_TOKEN])


def scheme_of(address: str) -> str:
    """The scheme of an address, in small letters; "" for what is none."""
    try:
        return urlsplit(address).scheme.lower()
    except ValueError:
        return ""


def read_wanted(environ: Mapping[str, str]) -> Wanted | None:
    """What the variables of Gerrit's Jenkins plugins or of Zuul name; None without them.

    Raises UsageError that names the variable where one is missing or makes no sense.
    """
    if environ.get("ZUUL_PROJECT"):
        return _of_zuul(environ)
    if environ.get("GERRIT_PROJECT"):
        return _of_gerrit(environ)
    lone = [name for name in ("GERRIT_PATCHSET_REVISION", "ZUUL_COMMIT") if environ.get(name)]
    if lone:
        project = f"{lone[0].partition('_')[0]}_PROJECT"
        raise UsageError(f"{lone[0]} is set, but {project} is not.")
    return None


def _of_gerrit(environ: Mapping[str, str]) -> Wanted:
    updated = environ.get("GERRIT_EVENT_TYPE", "") == "ref-updated"
    merged = environ.get("GERRIT_EVENT_TYPE", "") == "change-merged"
    by_api = "GERRIT_API_URL" in environ
    if updated:
        branch = _need(environ, "GERRIT_REFNAME", _BRANCH).removeprefix("refs/heads/")
        commit = _need(environ, "GERRIT_NEWREV", _SHA)
    else:
        branch = _need(environ, "GERRIT_BRANCH", _BRANCH).removeprefix("refs/heads/")
        name = "GERRIT_NEWREV" if merged and environ.get("GERRIT_NEWREV") else None
        commit = _need(environ, name or "GERRIT_PATCHSET_REVISION", _SHA)
    project = _need(environ, "GERRIT_PROJECT", _PROJECT)
    return Wanted(
        source="gerrit-code-review" if by_api else "gerrit-trigger",
        project=project,
        branch=branch,
        commit=commit,
        ref=None if updated else _may_have(environ, "GERRIT_REFSPEC", _REF),
        address=_gerrit_address(environ, project),
        change=_number(environ, "GERRIT_CHANGE_NUMBER"),
        patch_set=_number(environ, "GERRIT_PATCHSET_NUMBER"),
        message=_message(environ, "GERRIT_CHANGE_COMMIT_MESSAGE"),
    )


def _gerrit_address(environ: Mapping[str, str], project: str) -> str | None:
    """Where the server's web address says that git finds the project."""
    page = environ.get("GERRIT_API_URL") or environ.get("GERRIT_CHANGE_URL", "")
    if scheme_of(page) not in ("http", "https"):
        return None
    server = re.split(r"/(?:c/|q/|a/|#/|\d+/?$)", page, maxsplit=1)[0].rstrip("/")
    return f"{server}/{quote(project)}"


def _of_zuul(environ: Mapping[str, str]) -> Wanted:
    project = _need(environ, "ZUUL_PROJECT", _PROJECT)
    change = _number(environ, "ZUUL_CHANGE")
    ref = _may_have(environ, "ZUUL_REF", _REF)
    if environ.get("ZUUL_NEWREV"):
        name = environ.get("ZUUL_REFNAME") or environ.get("ZUUL_BRANCH", "")
        branch, commit = name.removeprefix("refs/heads/"), _need(environ, "ZUUL_NEWREV", _SHA)
        _check("ZUUL_REFNAME", branch, _BRANCH)
        ref = None
    else:
        branch = _need(environ, "ZUUL_BRANCH", _BRANCH)
        commit = _need(environ, "ZUUL_COMMIT", _SHA)
    return Wanted(
        source="zuul",
        project=project,
        branch=branch,
        commit=commit,
        ref=ref,
        address=_zuul_address(environ.get("ZUUL_URL", ""), project),
        change=change,
        patch_set=_number(environ, "ZUUL_PATCHSET"),
    )


def _zuul_address(server: str, project: str) -> str | None:
    if not server:
        return None
    if scheme_of(server) not in (*_SCHEMES, "file"):
        raise UsageError("ZUUL_URL is no address of a git server.")
    return f"{server.rstrip('/')}/{quote(project)}"


def _need(environ: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise UsageError(
            f"{name} is not set, though the build's other variables are.",
            advice="Trigger the build by an event, or name the revision: --rev",
        )
    _check(name, value, pattern)
    return value


def _may_have(environ: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str | None:
    return _need(environ, name, pattern) if environ.get(name, "").strip() else None


def _check(name: str, value: str, pattern: re.Pattern[str]) -> None:
    if len(value) > _LONGEST or not pattern.fullmatch(value) or ".." in value:
        raise UsageError(
            f"{name} makes no sense: {value[:80]!r}.", advice="Look at what sets it in the build."
        )


def _number(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "").strip()
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise UsageError(
            f"{name} makes no sense: {value[:80]!r}.", advice="Look at what sets it in the build."
        )
    return int(value)


def _message(environ: Mapping[str, str], name: str) -> str | None:
    """A text: base64 in gerrit-trigger's default mode, plain where it is set so."""
    value = environ.get(name, "").strip()
    if not value:
        return None
    try:
        text = b64decode(value, validate=True).decode("utf-8")
    except (Base64Error, ValueError):
        return value
    return value if _CONTROL.search(text) else text
