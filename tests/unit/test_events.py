"""covtrack.gerrit.events: what is kept of Gerrit's JSON, and when two tellings are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from covtrack.gerrit.events import Event, EventKind, parse_event
from covtrack.gerrit.listener import parse_line, stream_command
from covtrack.gerrit.settings import GerritServer

SHA = "a" * 40
CREATED: dict[str, Any] = {
    "type": "patchset-created",
    "change": {"project": "demo", "branch": "master", "number": 7, "subject": "Fix it"},
    "patchSet": {
        "number": 2,
        "revision": SHA,
        "ref": "refs/changes/07/7/2",
        "kind": "REWORK",
    },
    "uploader": {"username": "ada"},
    "eventCreatedOn": 1700000000,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = ("type", "change", "patchSet", "refUpdate", "author", "eventCreatedOn", "newRev")


def parsed(**changes: Any) -> Event:
    event = parse_event(CREATED | changes)
    assert event is not None
    return event


class ParseTest(TestCase):
    def test_patch_set(self) -> None:
        expected = Event(
            kind=EventKind.PATCH_SET,
            project="demo",
            branch="master",
            change=7,
            patch_set=2,
            commit=SHA,
            ref="refs/changes/07/7/2",
            subject="Fix it",
            rework="REWORK",
            author="ada",
            at=1700000000,
        )
        self.assertEqual(expected, parsed())

    def test_numbers_of_old_servers_are_text(self) -> None:
        change = CREATED["change"] | {"number": "7"}
        patch_set = CREATED["patchSet"] | {"number": "2"}
        self.assertEqual(parsed(), parsed(change=change, patchSet=patch_set))

    def test_the_events_log_has_projects_as_objects(self) -> None:
        change = CREATED["change"] | {"project": {"name": "demo"}}
        self.assertEqual(parsed(), parsed(change=change))

    def test_branch_moved(self) -> None:
        update = {"oldRev": "0" * 40, "newRev": SHA, "refName": "master", "project": "demo"}
        event = parse_event({"type": "ref-updated", "refUpdate": update})
        assert event is not None
        self.assertEqual(
            ("refs/heads/master", "master", SHA), (event.ref, event.branch, event.commit)
        )
        whole = update | {"refName": "refs/heads/master"}
        self.assertEqual(event, parse_event({"type": "ref-updated", "refUpdate": whole}))

    def test_other_refs_and_deleted_branches_are_dropped(self) -> None:
        for name, new in (("refs/changes/07/7/meta", SHA), ("refs/tags/1", SHA), ("m", "0" * 40)):
            update = {"newRev": new, "refName": name, "project": "demo"}
            self.assertIsNone(parse_event({"type": "ref-updated", "refUpdate": update}), name)

    def test_what_nobody_reacts_to_is_dropped(self) -> None:
        for kind in ("reviewer-added", "topic-changed", "ref-replicated", "", None, 7):
            self.assertIsNone(parse_event(CREATED | {"type": kind}))

    def test_comments_that_ask_for_nothing_are_dropped(self) -> None:
        said = {"type": "comment-added", "author": {"username": "zuul"}}
        self.assertIsNone(parse_event(CREATED | said | {"comment": "Build succeeded."}))
        asked = parsed(**said, comment="Patch Set 2:\n\nrecheck coverage")
        self.assertEqual((EventKind.COMMENT, "zuul"), (asked.kind, asked.author))

    def test_what_no_database_or_git_takes_is_dropped(self) -> None:
        for part in ({"number": 2**31}, {"ref": "refs/ x"}, {"ref": "--all"}, {"ref": 7}):
            event = parse_event(CREATED | {"patchSet": CREATED["patchSet"] | part})
            self.assertTrue(event is None or not event.ref, part)
        for commit in ("\ud800", "HEAD", "a" * 39, f"{SHA}\0"):
            patch_set = CREATED["patchSet"] | {"revision": commit}
            self.assertEqual("", parsed(patchSet=patch_set).commit)
        change = CREATED["change"] | {"subject": "a\0\ud800"}
        self.assertEqual("a\ufffd\ufffd", parsed(change=change).subject)
        change = CREATED["change"] | {"number": 2**31}
        self.assertIsNone(parse_event(CREATED | {"change": change}))
        for name in ("a b", "a..\nb", "a~b"):
            update = {"newRev": SHA, "refName": f"refs/heads/{name}", "project": "demo"}
            self.assertIsNone(parse_event({"type": "ref-updated", "refUpdate": update}), name)

    def test_nobody_tells_what_only_covtrack_sees(self) -> None:
        self.assertIsNone(parse_event(CREATED | {"type": EventKind.SEEN.value}))

    def test_what_lacks_its_change_is_dropped(self) -> None:
        for part in ("change", "patchSet"):
            self.assertIsNone(parse_event({k: v for k, v in CREATED.items() if k != part}))

    @given(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)))
    def test_no_answer_breaks_it(self, raw: Any) -> None:
        parse_event(raw)

    @given(st.sampled_from([*EventKind]), st.dictionaries(st.sampled_from(FIELDS), JSON))
    def test_no_event_breaks_it(self, kind: EventKind, parts: dict[str, Any]) -> None:
        event = parse_event(CREATED | parts | {"type": kind.value})
        if event is not None:
            self.assertEqual(
                event, Event(**json.loads(json.dumps(_shown(event))) | {"kind": kind})
            )

    @given(st.binary(max_size=200))
    def test_no_line_breaks_it(self, line: bytes) -> None:
        parse_line(line)

    def test_a_line_that_is_cut(self) -> None:
        line = json.dumps(CREATED).encode()
        self.assertEqual(parsed(), parse_line(line + b"\n"))
        for end in range(len(line)):
            self.assertIsNone(parse_line(line[:end]))
        self.assertIsNone(parse_line(b"[" * 100_000))


def _shown(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__dataclass_fields__}


class DigestTest(TestCase):
    def test_a_patch_set_is_one_by_whatever_way_and_time(self) -> None:
        self.assertEqual(parsed().digest, parsed(eventCreatedOn=1).digest)
        self.assertEqual(parsed().digest, parsed(uploader={}).digest)

    def test_comments_on_one_patch_set_are_many(self) -> None:
        first = replace(parsed(), kind=EventKind.COMMENT, comment="recheck coverage")
        later = replace(first, at=1700000001)
        self.assertEqual(3, len({parsed().digest, first.digest, later.digest}))

    def test_a_comment_told_a_little_later_is_the_same(self) -> None:
        first = replace(parsed(), kind=EventKind.COMMENT, comment="recheck coverage")
        later = replace(first, at=(first.at or 0) + 1)
        self.assertIn(later.digest, first.other_digests)
        self.assertIn(first.digest, later.other_digests)
        self.assertNotIn(replace(first, at=(first.at or 0) + 60).digest, first.other_digests)
        self.assertEqual(frozenset(), parsed().other_digests)

    def test_another_server_says_its_own(self) -> None:
        merged = replace(parsed(), kind=EventKind.MERGED)
        other = replace(merged, commit="b" * 40)
        self.assertNotEqual(merged.digest, other.digest)


class CommandTest(TestCase):
    def test_the_stream(self) -> None:
        server = GerritServer(
            name="g", url="http://g", ssh="ssh://bot@host:29418", ssh_options=("-i", "key")
        )
        words = stream_command(server)
        self.assertEqual("ssh", words[0])
        for option in ("BatchMode=yes", "ServerAliveInterval=15", "ServerAliveCountMax=3", "key"):
            self.assertIn(option, words)
        target = words.index("--")
        self.assertEqual(["bot@host", "gerrit", "stream-events"], words[target + 1 : target + 4])
        self.assertEqual("29418", words[words.index("-p") + 1])
