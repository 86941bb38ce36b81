"""What the variables of four dialects say, and that garbage is told, never guessed."""

from __future__ import annotations

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.ci_variables import TrackerRun, Wanted, read_tracker_run, read_wanted
from venv_builder.errors import UsageError

SHA, OTHER = "a" * 40, "b" * 40
TRIGGER = {
    "GERRIT_EVENT_TYPE": "patchset-created",
    "GERRIT_PROJECT": "openstack/keystone",
    "GERRIT_BRANCH": "master",
    "GERRIT_CHANGE_NUMBER": "123456",
    "GERRIT_CHANGE_URL": "https://review.example.org/c/openstack/keystone/+/123456",
    "GERRIT_CHANGE_COMMIT_MESSAGE": b64encode("Mend é\n\nMore.\n".encode()).decode(),
    "GERRIT_PATCHSET_NUMBER": "3",
    "GERRIT_PATCHSET_REVISION": SHA,
    "GERRIT_REFSPEC": "refs/changes/56/123456/3",
}
ZUUL = {
    "ZUUL_PROJECT": "openstack/keystone",
    "ZUUL_BRANCH": "stable/2025.1",
    "ZUUL_CHANGE": "77",
    "ZUUL_PATCHSET": "2",
    "ZUUL_REF": "refs/zuul/stable/2025.1/Zdeadbeef",
    "ZUUL_URL": "http://zm01.example.org/p",
    "ZUUL_COMMIT": SHA,
}
OWN = {
    "COVTRACK_TRACKER": "https://covtrack.example.org",
    "COVTRACK_RUN_ID": "12-ab",
    "COVTRACK_RUN_TOKEN": "secret",
}


def wanted(environ: dict[str, str]) -> Wanted:
    found = read_wanted(environ)
    assert found is not None
    return found


class GerritTest(TestCase):
    def test_a_patch_set_of_gerrit_trigger(self) -> None:
        self.assertEqual(
            Wanted(
                source="gerrit-trigger",
                project="openstack/keystone",
                branch="master",
                commit=SHA,
                ref="refs/changes/56/123456/3",
                address="https://review.example.org/openstack/keystone",
                change=123456,
                patch_set=3,
                message="Mend é\n\nMore.\n",
            ),
            read_wanted(TRIGGER),
        )

    def test_gerrit_code_review_says_where_its_api_is(self) -> None:
        found = wanted(TRIGGER | {"GERRIT_API_URL": "https://review.example.org/r/a/"})
        self.assertEqual("gerrit-code-review", found.source)
        self.assertEqual("https://review.example.org/r/openstack/keystone", found.address)

    def test_what_was_merged_or_pushed(self) -> None:
        merged = wanted(TRIGGER | {"GERRIT_EVENT_TYPE": "change-merged", "GERRIT_NEWREV": OTHER})
        self.assertEqual(OTHER, merged.commit)
        pushed = {
            "GERRIT_EVENT_TYPE": "ref-updated",
            "GERRIT_PROJECT": "p",
            "GERRIT_REFNAME": "refs/heads/stable/1",
            "GERRIT_NEWREV": OTHER,
        }
        found = wanted(pushed)
        self.assertEqual(("stable/1", OTHER, None), (found.branch, found.commit, found.ref))

    def test_a_plain_message_is_taken_as_it_is(self) -> None:
        for message in ("Mend it\n\nChange-Id: I12", "====", "%%%", "Fix1"):
            found = wanted(TRIGGER | {"GERRIT_CHANGE_COMMIT_MESSAGE": message})
            self.assertEqual(message, found.message)

    def test_what_is_missing_or_makes_no_sense_is_named(self) -> None:
        for name, value in (
            ("GERRIT_PATCHSET_REVISION", ""),
            ("GERRIT_PATCHSET_REVISION", "HEAD"),
            ("GERRIT_PATCHSET_REVISION", "--help"),
            ("GERRIT_BRANCH", ""),
            ("GERRIT_BRANCH", "--upload-pack=x"),
            ("GERRIT_BRANCH", "a b"),
            ("GERRIT_REFSPEC", "refs/heads/*:refs/heads/*"),
            ("GERRIT_PROJECT", "../../etc"),
            ("GERRIT_PROJECT", "a/../b"),
            ("GERRIT_CHANGE_NUMBER", "seven"),
            ("GERRIT_CHANGE_NUMBER", "9" * 50),
            ("GERRIT_PATCHSET_NUMBER", "-1"),
        ):
            error = self.assertRaises(UsageError, read_wanted, TRIGGER | {name: value})
            self.assertIn(name, str(error))
            self.assertLess(len(str(error)), 300)

    @given(st.sampled_from(sorted(TRIGGER)), st.text(max_size=60))
    def test_anything_is_read_or_told(self, name: str, value: str) -> None:
        try:
            read_wanted(TRIGGER | {name: value})
        except UsageError as error:
            self.assertIn("GERRIT_", str(error))


class ZuulTest(TestCase):
    def test_a_change(self) -> None:
        found = wanted(ZUUL)
        self.assertEqual(
            ("zuul", "stable/2025.1", SHA, 77, 2),
            (found.source, found.branch, found.commit, found.change, found.patch_set),
        )
        self.assertEqual("http://zm01.example.org/p/openstack/keystone", found.address)

    def test_a_push(self) -> None:
        more = {"ZUUL_REFNAME": "master", "ZUUL_OLDREV": SHA, "ZUUL_NEWREV": OTHER}
        found = wanted({"ZUUL_PROJECT": "p"} | more)
        self.assertEqual(("master", OTHER, None), (found.branch, found.commit, found.ref))

    def test_mistakes(self) -> None:
        for name, value in (("ZUUL_COMMIT", "x"), ("ZUUL_URL", "--x"), ("ZUUL_REF", "master")):
            error = self.assertRaises(UsageError, read_wanted, ZUUL | {name: value})
            self.assertIn(name, str(error))
        lone = self.assertRaises(UsageError, read_wanted, {"ZUUL_COMMIT": SHA})
        self.assertIn("ZUUL_PROJECT is not", str(lone))


class OwnTest(TestCase):
    def test_all_three_or_none(self) -> None:
        self.assertIsNone(read_tracker_run(TRIGGER))
        self.assertIsNone(read_wanted({"PATH": "/bin"}))
        run = read_tracker_run(OWN)
        self.assertEqual(
            TrackerRun(tracker=OWN["COVTRACK_TRACKER"], run_id="12-ab", token="secret"), run
        )
        self.assertNotIn("secret", repr(run))
        for name in OWN:
            error = self.assertRaises(UsageError, read_tracker_run, OWN | {name: " "})
            self.assertIn(f"{name} is not set", str(error))
            self.assertNotIn("secret", str(error))

    def test_mistakes(self) -> None:
        for name, value in (
            ("COVTRACK_TRACKER", "example.org"),
            ("COVTRACK_TRACKER", "file:///etc"),
            ("COVTRACK_TRACKER", "http://[::1"),
            ("COVTRACK_RUN_ID", "../x"),
            ("COVTRACK_RUN_TOKEN", "a\nb"),
        ):
            error = self.assertRaises(UsageError, read_tracker_run, OWN | {name: value})
            self.assertIn(name, str(error))
