"""The pure parts of the mirrors: what a push said, what differs, what is shown."""

from __future__ import annotations

from datetime import UTC, datetime

from testtools import TestCase

from covtrack.gerrit.settings import GerritServer
from covtrack.mirror_report import MirrorStatus, compare, show_size, status_grid
from covtrack.mirrors import address_of, choose, known
from covtrack.restoring import Restored, tell
from covtrack.settings import Settings
from jobs.addresses import without_password
from jobs.replica import Pushed, RefKind, count_kinds, parse_push
from venv_builder.errors import UsageError

SAID = """\
To http://127.0.0.1/a/p
*\trefs/heads/x:refs/heads/x\t[new branch]
+\trefs/heads/y:refs/heads/y\tb30f44f...25a0124 (forced update)
!\trefs/tags/1.0:refs/tags/1.0\t[remote rejected] (prohibited by Gerrit: not permitted: create)
=\trefs/tags/2.0:refs/tags/2.0\t[up to date]
Done
"""


class PushTest(TestCase):
    def test_each_ref_and_why_not(self) -> None:
        found = list(parse_push(SAID))
        self.assertEqual([True, True, False, True], [one.taken for one in found])
        self.assertEqual("prohibited by Gerrit: not permitted: create", found[2].reason)
        self.assertEqual("refs/tags/1.0", found[2].ref)

    def test_what_is_told(self) -> None:
        restored = Restored(
            url="u",
            pushed=(
                *(Pushed(ref=f"refs/heads/b{n}", taken=False, reason="no") for n in range(5)),
                Pushed(ref="refs/changes/07/1207/1", taken=True),
            ),
            left={RefKind.CHANGE: 0},
            on_gerrit=True,
        )
        lines = tell(restored)
        self.assertEqual("refs/heads: 0 of 5 restored", lines[0])
        named = "refs/heads/b0, refs/heads/b1, refs/heads/b2 and 2 more"
        self.assertEqual(f"  not restored: {named} (no)", lines[1])
        self.assertIn("gerrit sequence set changes 1208", lines[-1])
        self.assertFalse(restored.complete)


class ReportTest(TestCase):
    def test_what_differs(self) -> None:
        ours = {"refs/heads/a": "1", "refs/heads/b": "1", "refs/heads/c": "1"}
        theirs = {"refs/heads/a": "1", "refs/heads/b": "2", "refs/heads/d": "1"}
        found = compare(ours, theirs)
        self.assertEqual((2, 1), (found.behind, found.ahead))

    def test_sizes(self) -> None:
        sizes = {0: "0 B", 999: "999 B", 1024: "1.0 KiB", 2**20: "1.0 MiB", 10**15: "909.4 TiB"}
        self.assertEqual(list(sizes.values()), [show_size(size) for size in sizes])

    def test_a_mirror_that_was_never_filled(self) -> None:
        status = MirrorStatus(
            name="p",
            counts=count_kinds(()),
            newest="",
            synced_at=None,
            size=0,
            difference=None,
        )
        (row,) = status_grid([status], datetime.now(UTC)).rows
        self.assertEqual(("0 B", "never", "unknown", "unknown", ""), row[6:])


class NamesTest(TestCase):
    def test_addresses(self) -> None:
        server = GerritServer(name="g", url="https://g.example.org/r")
        self.assertEqual("https://g.example.org/r/a%20b/c", address_of(server, "a b/c"))
        logged_in = server.model_copy(update={"user": "ci"})
        self.assertEqual("https://g.example.org/r/a/p", address_of(logged_in, "p"))

    def test_no_password_is_shown(self) -> None:
        text = "Cannot fetch https://ada:hu%40sh@g.example.org/p@q and ssh://b@h:1/p"
        shown = "Cannot fetch https://g.example.org/p@q and ssh://h:1/p"
        self.assertEqual(shown, without_password(text))

    def test_an_unknown_mirror(self) -> None:
        error = self.assertRaises(UsageError, choose, known(Settings(projects={})), ["p"])
        self.assertIn("There is no mirror p (known: none)", str(error))
