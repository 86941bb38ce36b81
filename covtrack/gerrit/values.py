"""What Gerrit's REST interface answers, read strictly into frozen values.

Pure functions of JSON: they ask no server. An answer is not trusted: where a field that Gerrit
always sends is missing, or any field is of another kind, they raise ValueError with its name.
Field names and kinds are those of Gerrit's rest-api-changes.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MAGIC_PREFIX = b")]}'"
STATUSES = frozenset({"NEW", "MERGED", "ABANDONED"})
SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# What neither UTF-8 nor PostgreSQL's text can hold, and what JSON can say all the same.
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeInfo:
    """A change at its current patch set.

    `branch` is short ("master"), `ref` is where the patch set is fetched from, `kind` what it did
    to the one before (REWORK, TRIVIAL_REBASE, NO_CODE_CHANGE …), `parents` are shas, `message` is
    the whole commit message, `updated` is in UTC.
    """

    project: str
    branch: str
    number: int
    change_id: str
    subject: str
    status: str
    sha: str
    patch_set: int
    ref: str
    kind: str
    parents: tuple[str, ...]
    message: str
    work_in_progress: bool
    private: bool
    updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewMessage:
    """A message on a change; `author` is an account's number, None for Gerrit itself.

    `tag` is None where a person wrote it; `revision_number` is the patch set it was written on.
    """

    tag: str | None
    text: str
    revision_number: int | None
    author: int | None
    date: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineComment:
    """A published comment in a file; lines are 1-based and None for a comment on the whole file.

    `path` is "/PATCHSET_LEVEL" for a comment on no file at all.
    """

    path: str
    first_line: int | None
    last_line: int | None
    message: str
    patch_set: int
    author: int | None
    unresolved: bool
    tag: str | None


def decode_answer(content: bytes) -> Any:
    """The JSON of an answer without Gerrit's prefix against script inclusion.

    Raises ValueError for anything else.
    """
    try:
        return json.loads(content.removeprefix(MAGIC_PREFIX))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_change(answer: Any) -> ChangeInfo:
    """A change asked for with CURRENT_REVISION and CURRENT_COMMIT."""
    sha = read_sha(answer, "current_revision")
    revision = read_object(read_object(answer, "revisions"), sha)
    commit = read_object(revision, "commit")
    status = read_text(answer, "status")
    if status not in STATUSES:
        raise ValueError(f"status is {status!r}")
    return ChangeInfo(
        project=read_text(answer, "project"),
        branch=read_text(answer, "branch").removeprefix("refs/heads/"),
        number=read_number(answer, "_number"),
        change_id=read_text(answer, "change_id"),
        subject=read_text(answer, "subject"),
        status=status,
        sha=sha,
        patch_set=read_number(revision, "_number"),
        ref=read_text(revision, "ref"),
        kind=read_text(revision, "kind", "REWORK"),
        parents=tuple(read_sha(parent, "commit") for parent in read_list(commit, "parents")),
        message=read_text(commit, "message"),
        work_in_progress=read_flag(answer, "work_in_progress"),
        private=read_flag(answer, "is_private"),
        updated=read_moment(answer, "updated"),
    )


def read_message(answer: Any) -> ReviewMessage:
    """A ChangeMessageInfo."""
    return ReviewMessage(
        tag=find_text(answer, "tag"),
        text=read_text(answer, "message"),
        revision_number=find_number(answer, "_revision_number"),
        author=_author(answer),
        date=read_moment(answer, "date"),
    )


def read_comment(path: str, answer: Any) -> InlineComment:
    """A CommentInfo of `path`, which Gerrit names outside of it."""
    last = find_number(answer, "line")
    lines = (last, last)
    if "range" in check_object(answer):
        extent = read_object(answer, "range")
        lines = (read_number(extent, "start_line"), read_number(extent, "end_line"))
    return InlineComment(
        path=path,
        first_line=lines[0],
        last_line=lines[1],
        message=read_text(answer, "message", ""),
        patch_set=read_number(answer, "patch_set"),
        author=_author(answer),
        unresolved=read_flag(answer, "unresolved"),
        tag=find_text(answer, "tag"),
    )


def read_votes(answer: Any) -> dict[str, tuple[int, ...]]:
    """The values that the asking account may vote, by label, lowest first."""
    if "permitted_labels" not in check_object(answer):
        return {}
    labels = read_object(answer, "permitted_labels")
    return {
        name: tuple(sorted(int(str(vote)) for vote in read_list(labels, name))) for name in labels
    }


def read_event(answer: Any) -> dict[str, Any]:
    """An event of the events-log plugin, with projects as names.

    That plugin writes {"name": …} where the stream has a string.
    """
    event = dict(check_object(answer))
    for key in ("change", "refUpdate"):
        if isinstance(event.get(key), dict):
            event[key] = _with_project_name(event[key])
    return _with_project_name(event)


def read_object(answer: Any, key: str) -> Mapping[str, Any]:
    """The object under `key`."""
    return check_object(check_object(answer).get(key), key)


def check_object(value: Any, place: str = "the answer") -> Mapping[str, Any]:
    """`value` if it is a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} is no object")
    return value


def read_list(answer: Any, key: str) -> list[Any]:
    """The list under `key`; a missing one is empty, as Gerrit leaves empty lists out."""
    return check_list(check_object(answer).get(key, []), key)


def check_list(value: Any, place: str = "the answer") -> list[Any]:
    """`value` if it is a JSON list."""
    if not isinstance(value, list):
        raise ValueError(f"{place} is no list")
    return value


def read_text(answer: Any, key: str, default: str | None = None) -> str:
    """The string under `key`, with what cannot be stored replaced."""
    found = find_text(answer, key)
    if found is not None:
        return found
    if default is None:
        raise ValueError(f"{key} is missing")
    return default


def find_text(answer: Any, key: str) -> str | None:
    """Like read_text, None where it is missing."""
    found = check_object(answer).get(key)
    return None if found is None else check_text(found, key)


def check_text(value: Any, place: str = "the answer") -> str:
    """`value` if it is a string, with what cannot be stored replaced."""
    if not isinstance(value, str):
        raise ValueError(f"{place} is no string")
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)


def read_sha(answer: Any, key: str) -> str:
    """The object name under `key`."""
    found = read_text(answer, key)
    if not SHA.fullmatch(found):
        raise ValueError(f"{key} is no commit")
    return found


def read_number(answer: Any, key: str) -> int:
    """The whole number under `key`."""
    found = find_number(answer, key)
    if found is None:
        raise ValueError(f"{key} is missing")
    return found


def find_number(answer: Any, key: str) -> int | None:
    """Like read_number, None where it is missing."""
    found = check_object(answer).get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int):
        raise ValueError(f"{key} is no number")
    return found


def read_flag(answer: Any, key: str) -> bool:
    """The truth under `key`; Gerrit leaves out what is false."""
    found = check_object(answer).get(key, False)
    if not isinstance(found, bool):
        raise ValueError(f"{key} is neither true nor false")
    return found


def read_moment(answer: Any, key: str) -> datetime:
    """The time under `key`, "2026-01-31 12:00:00.000000000" in UTC."""
    text = read_text(answer, key)
    return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC)


def _author(answer: Any) -> int | None:
    if "author" not in check_object(answer):
        return None
    return find_number(read_object(answer, "author"), "_account_id")


def _with_project_name(value: Mapping[str, Any]) -> dict[str, Any]:
    project = value.get("project")
    if isinstance(project, dict) and isinstance(project.get("name"), str):
        return {**value, "project": project["name"]}
    return dict(value)
