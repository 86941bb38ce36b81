"""What Gerrit tells, whichever way it came, as one frozen value; the rest is dropped. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from covtrack.gerrit.values import SHA, UNSTORABLE

LARGEST = 2**53  # of an epoch second
MOST = 2**31 - 1  # of a change or patch set: the database's integers
REF = re.compile(r"refs/[^\x00-\x20\x7f~^:?*\[\\]+")
RECHECK = re.compile(r"^\s*recheck(?:\s+coverage)\s*$", re.MULTILINE | re.IGNORECASE)
# A comment's own time and that of the event about it may differ by so many seconds.
TOLD_LATER = 5
ZERO = "0" * 40


class EventKind(StrEnum):
    """Gerrit's names of the events that covtrack reacts to; SEEN is how REST shows a change."""

    PATCH_SET = "patchset-created"
    MERGED = "change-merged"
    ABANDONED = "change-abandoned"
    RESTORED = "change-restored"
    REF_UPDATED = "ref-updated"
    COMMENT = "comment-added"
    WIP = "wip-state-changed"
    PRIVATE = "private-state-changed"
    DROPPED = "dropped-output"
    SEEN = "change-seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; fields that its kind does not have, or that were missing, are empty or None.

    `at` is the server's clock in epoch seconds. `commit` is the patch set's sha, or what a ref
    was moved to. `rework` is Gerrit's kind of the patch set, such as TRIVIAL_REBASE, `status` that
    of a change that was seen (NEW, MERGED, ABANDONED).
    """

    kind: EventKind
    project: str = ""
    branch: str = ""
    change: int | None = None
    patch_set: int | None = None
    commit: str = ""
    ref: str = ""
    subject: str = ""
    rework: str = ""
    comment: str = ""
    author: str = ""
    wip: bool = False
    private: bool = False
    at: int | None = None
    status: str = ""

    @property
    def digest(self) -> str:
        """The same for the same happening, by whatever way and however often it is told.

        A patch set, a merge and a moved ref happen once, so their time does not count.
        """
        once = {EventKind.PATCH_SET, EventKind.MERGED, EventKind.REF_UPDATED}
        named = [self.kind, self.project, self.branch, self.change, self.patch_set, self.commit]
        if self.kind is EventKind.REF_UPDATED:
            named = [self.kind, self.project, self.ref, self.commit]
        elif self.kind not in once:
            named += [self.at, self.comment, self.wip, self.private]
        if self.kind is EventKind.SEEN:
            named.append(self.status)
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()

    @property
    def other_digests(self) -> frozenset[str]:
        """The digests of the same comment where another way tells it with another time."""
        if self.kind is not EventKind.COMMENT or self.at is None:
            return frozenset()
        near = range(self.at - TOLD_LATER, self.at + TOLD_LATER + 1)
        return frozenset(replace(self, at=at).digest for at in near) - {self.digest}


def parse_event(raw: object) -> Event | None:
    """The event that Gerrit's JSON object tells; None for what nobody here reacts to.

    Any field may be missing; one of a wrong type counts as missing. An event without what its
    kind needs (project, change, patch set) is None, and so is a comment that asks for nothing.
    """
    if not isinstance(raw, Mapping):
        return None
    try:
        kind = EventKind(_text(raw, "type"))
    except ValueError:
        return None
    if kind is EventKind.SEEN:
        return None
    if kind is EventKind.DROPPED:
        return Event(kind=kind)
    event = _ref_event(raw) if kind is EventKind.REF_UPDATED else _change_event(kind, raw)
    is_whole = event and event.project and (event.change or kind is EventKind.REF_UPDATED)
    return event if is_whole else None


def _ref_event(raw: Mapping[str, Any]) -> Event | None:
    update = _part(raw, "refUpdate")
    ref = _text(update, "refName")
    if not ref.startswith("refs/"):
        ref = f"refs/heads/{ref}"
    is_branch = ref.startswith("refs/heads/") and REF.fullmatch(ref)
    new = _text(update, "newRev")
    if not is_branch or new == ZERO or not SHA.fullmatch(new):
        return None
    return Event(
        kind=EventKind.REF_UPDATED,
        project=_project(update),
        branch=ref.removeprefix("refs/heads/"),
        ref=ref,
        commit=new,
        at=_number(raw, "eventCreatedOn"),
    )


def _change_event(kind: EventKind, raw: Mapping[str, Any]) -> Event | None:
    change, patch_set = _part(raw, "change"), _part(raw, "patchSet")
    ref = _text(patch_set, "ref")
    commit = _text(raw, "newRev") if kind is EventKind.MERGED else _text(patch_set, "revision")
    author = _part(raw, "author") or _part(raw, "uploader") or _part(raw, "changer")
    number = _number(patch_set, "number", MOST)
    if kind in (EventKind.PATCH_SET, EventKind.COMMENT) and not number:
        return None
    comment = _text(raw, "comment") if kind is EventKind.COMMENT else ""
    if kind is EventKind.COMMENT and not RECHECK.search(comment):
        return None
    return Event(
        kind=kind,
        project=_project(change),
        branch=_text(change, "branch").removeprefix("refs/heads/"),
        change=_number(change, "number", MOST) or _number(change, "_number", MOST),
        patch_set=number,
        commit=commit if SHA.fullmatch(commit) else "",
        ref=ref if REF.fullmatch(ref) else "",
        subject=_text(change, "subject")[:300],
        rework=_text(patch_set, "kind"),
        comment=comment,
        author=_text(author, "username") or _text(author, "email"),
        wip=change.get("wip") is True,
        private=change.get("private") is True,
        at=_number(raw, "eventCreatedOn"),
    )


def _project(part: Mapping[str, Any]) -> str:
    """The project's name: a string, or an object with one in what the events-log plugin says."""
    found = part.get("project")
    return _text(found, "name") if isinstance(found, Mapping) else _text(part, "project")


def _part(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(raw: Mapping[str, Any], name: str) -> str:
    found = raw.get(name)
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", found) if isinstance(found, str) else ""


def _number(raw: Mapping[str, Any], name: str, most: int = LARGEST) -> int | None:
    found = raw.get(name)
    if isinstance(found, str) and found.isascii() and found.isdigit():
        found = int(found[:17])
    if isinstance(found, bool) or not isinstance(found, int):
        return None
    return found if 0 <= found <= most else None
