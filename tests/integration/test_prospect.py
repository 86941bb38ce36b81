"""Prospective coverage on a real clone, checked against full runs of the real merge."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from covtrack.contract import to_json
from covtrack.prospect import Prospector
from covtrack.prospect_results import Prospect
from jobs.landing import State
from jobs.project import ProjectSettings
from tests.integration.test_tracking import STATE, TrackingCase
from venv_builder.errors import UsageError
from venv_builder.processes import run_command

AREA = "sample/tests/test_shapes.py"
TEXTS = "sample/tests/test_texts.py"
SHAPES = "sample/shapes.py"
# Far from all that the sample's own tests hold, so that changes do not touch each other.
MORE = """\
    import unittest

    from sample import shapes


    class {name}(unittest.TestCase):
        def test_more(self):
            {body}
    """


class ProspectCase(TrackingCase):
    def branch(self, name: str, files: Mapping[str, str | None], start: str = "master") -> str:
        """A branch of one commit; leaves the clone on master."""
        self.clone.repo.git.checkout("-q", "-b", name, start)
        sha = self.clone.commit(f"Commit of {name}", files)
        self.clone.repo.git.checkout("-q", "master")
        return sha

    def edited(self, name: str, path: str, old: str, new: str, start: str = "master") -> str:
        """A branch of one commit that replaces text."""
        text = self.clone.repo.git.show(f"{start}:{path}") + "\n"
        assert old in text, (path, old)
        return self.branch(name, {path: text.replace(old, new)}, start)

    def prospect(self, *refs: str, verify: bool = True, **settings: object) -> Prospect:
        project = ProjectSettings.model_validate(
            {"name": self.name, "git": str(self.root), "branch": "master", **settings}
        )
        return Prospector(self.make_tracker(), project).run(refs, verify=verify)

    def assert_verified(self, found: Prospect) -> None:
        """The prospect equals a full run of the merge, line by line and test by test."""
        verified = found.verified
        assert verified is not None
        self.assertEqual(({}, {}), (verified.false_covered, verified.missed))
        self.assertEqual(found.after.counts.covered, verified.covered)
        self.assertEqual(found.after.counts.statements, verified.statements)
        self.assertEqual(verified.tests, verified.known_tests)
        gains = sum(change.gain or 0 for change in found.changes)
        total = found.before.covered + gains + found.shared - found.lost
        self.assertEqual(total, found.after.covered)


class GainTest(ProspectCase):
    def test_disjoint_gains_add_up(self) -> None:
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("one", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        new = "def louder(name):\n    return name.upper()\n"
        test = "import unittest\nfrom sample import louder\n\n\nclass Two(unittest.TestCase):\n"
        test += "    def test_louder(self):\n        self.assertEqual('A', louder.louder('a'))\n"
        self.branch("two", {"sample/louder.py": new, "sample/tests/test_two.py": test})
        found = self.prospect("one", "two")
        one, two = found.changes
        self.assertEqual((State.INCLUDED, State.INCLUDED), (one.state, two.state))
        self.assertEqual({SHAPES: (18,)}, one.gain_lines)
        self.assertEqual({"sample/louder.py": (1, 2)}, two.gain_lines)
        self.assertEqual(found.before.covered + 3, found.after.covered)
        self.assertEqual(found.before.statements + 2, found.after.statements)
        self.assertEqual((), found.overlapping_tests)
        self.assert_verified(found)
        merged = self.clone.repo.git.merge_tree("--write-tree", "one", "two")
        self.assertEqual(merged, found.merged_tree)

    def test_lines_that_two_bring_are_nobodys_own(self) -> None:
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("one", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        self.branch("two", {"sample/tests/test_two.py": MORE.format(name="Two", body=body)})
        found = self.prospect("one", "two")
        self.assertEqual([0, 0, 1], [*(change.gain for change in found.changes), found.shared])
        self.assertEqual(found.before.covered + 1, found.after.covered)
        self.assert_verified(found)

    def test_untested_addition_gains_nothing(self) -> None:
        self.edited("one", SHAPES, "def untested", "def new():\n    return 2\n\n\ndef untested")
        found = self.prospect("one")
        self.assertEqual({SHAPES: (17,)}, found.changes[0].gain_lines)  # the def itself runs
        self.assertEqual(found.before.statements + 2, found.after.statements)
        patch = found.changes[0].patch
        assert patch is not None
        self.assertEqual((2, 1), (patch.statements, patch.covered))
        self.assert_verified(found)

    def test_deleted_test_takes_its_lines_along(self) -> None:
        head, body = "    def test_negative(self):\n", "shapes.area, -1, 3)\n"
        self.edited("one", AREA, f"{head}        self.assertRaises(ValueError, {body}", "")
        self.edited("two", TEXTS, '"bob"', '"bob" ')
        found = self.prospect("one", "two")
        self.assertEqual([0, 0], [change.gain for change in found.changes])
        self.assertEqual(found.before.covered - 1, found.after.covered)
        self.assert_verified(found)

    def test_deleted_test_file(self) -> None:
        self.branch("one", {TEXTS: None})
        found = self.prospect("one")
        self.assertLess(found.after.covered, found.before.covered)
        self.assert_verified(found)

    def test_branches_are_joined_too(self) -> None:
        text = self.clone.read(".coveragerc") + "branch = True\n"
        self.clone.commit("Branches", {".coveragerc": text})
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("one", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        self.edited("two", SHAPES, "SIDES =", "TOP = 1\nSIDES =")
        found = self.prospect("one", "two")
        self.assertEqual({SHAPES: (19,)}, found.changes[0].gain_lines)
        self.assert_verified(found)


class OverlapTest(ProspectCase):
    def test_test_that_two_changes_reach_is_named(self) -> None:
        self.edited(
            "one", SHAPES, "    if width < 0:", "    width = int(width)\n    if width < 0:"
        )
        self.edited("two", SHAPES, "return width * height", "return height * width")
        found = self.prospect("one", "two")
        test = "sample.tests.test_shapes.AreaTest.test_area"
        self.assertIn(test, found.overlapping_tests)
        self.assertEqual({SHAPES: (5,)}, found.changes[0].gain_lines)
        self.assertEqual({SHAPES: (8,)}, found.changes[1].gain_lines)
        self.assertEqual((0, 1), (found.shared, found.lost))  # the return was covered before too
        self.assert_verified(found)

    def test_line_that_one_takes_away_is_not_covered_by_the_other(self) -> None:
        files = {
            "sample/deep.py": "def inner():\n    return 1\n\n\ndef outer():\n    one = 1\n\n\n"
            "    two = inner()\n\n\n    three = 3\n    return one + two + three\n",
            "sample/tests/test_deep.py": "import unittest\nfrom sample import deep\n\n\n"
            "class Deep(unittest.TestCase):\n    def test_deep(self):\n        deep.outer()\n",
        }
        self.clone.commit("Add deep", files)
        self.edited("one", "sample/deep.py", "two = inner()", "two = 2")
        self.edited("two", "sample/deep.py", "return one + two", "return two + one")
        found = self.prospect("one", "two")
        self.assertEqual(("sample.tests.test_deep.Deep.test_deep",), found.overlapping_tests)
        self.assert_verified(found)

    def test_change_on_top_of_another(self) -> None:
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("one", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        self.edited(
            "two", SHAPES, "def untested", "def new():\n    return 2\n\n\ndef untested", "one"
        )
        for refs in (("one", "two"), ("two", "one")):
            found = self.prospect(*refs, verify=refs[0] == "one")
            gains = {change.ref: change.gain_lines for change in found.changes}
            self.assertEqual({"one": {SHAPES: (22,)}, "two": {SHAPES: (17,)}}, gains)
            self.assertEqual((), found.overlapping_tests)
        self.assertEqual(found.before.covered + 2, found.after.covered)

    def test_change_of_an_older_tip(self) -> None:
        self.run_job()
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("one", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        self.clone.replace(SHAPES, "SIDES =", "TOP = 1\nSIDES =")
        self.clone.commit_all("Move lines")
        found = self.prospect("one")
        self.assertEqual({SHAPES: (19,)}, found.changes[0].gain_lines)
        self.assert_verified(found)


class StateTest(ProspectCase):
    def test_conflicts_are_named(self) -> None:
        self.edited("one", SHAPES, "return width * height", "return height * width")
        self.edited("two", SHAPES, "return width * height", "return width.__mul__(height)")
        self.edited("three", TEXTS, '"bob"', '"rob"')
        self.clone.replace(TEXTS, '"bob"', '"Bob"')
        self.clone.commit_all("Go on")
        one, two, three = self.prospect("one", "two", "three", verify=False).changes
        self.assertEqual(State.INCLUDED, one.state)
        self.assertEqual((State.CONFLICT, ("one",), (SHAPES,)), _conflict(two))
        self.assertEqual((State.CONFLICT, ("master",), (TEXTS,)), _conflict(three))
        self.assertIsNone(two.gain)
        self.assertIn("two conflicts with one and is left out.", self.notes)

    def test_change_that_does_not_run_by_itself_is_left_out(self) -> None:
        self.edited("one", TEXTS, "import texts", "import texts, nonesuch")
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("two", {"sample/tests/test_two.py": MORE.format(name="Two", body=body)})
        found = self.prospect("one", "two")
        states = [change.state for change in found.changes]
        self.assertEqual([State.INCOMPLETE, State.INCLUDED], states)
        self.assertEqual(found.before.covered + 1, found.after.covered)
        self.assertIn("one is left out: its own figure is incomplete.", self.notes)
        self.assert_verified(found)

    def test_what_landed_is_told(self) -> None:
        sha = self.edited("one", TEXTS, '"bob"', '"bob" ')
        self.clone.commit("Go on", {"notes.txt": "x"})
        self.clone.repo.git.cherry_pick(sha)
        old = self.clone.repo.git.rev_parse("HEAD~1")
        found = self.prospect("one", old, verify=False)
        self.assertEqual([State.MERGED] * 2, [change.state for change in found.changes])
        self.assertEqual(found.before, found.after)

    def test_change_named_twice_counts_once(self) -> None:
        sha = self.edited("one", TEXTS, '"bob"', '"bob" ')
        self.assertEqual(1, len(self.prospect("one", sha, verify=False).changes))

    def test_stored_runs_are_used_again(self) -> None:
        self.edited("one", TEXTS, '"bob"', '"bob" ')
        first = self.prospect("one", verify=False)
        database = self.make_tracker().database
        runs = database.newest_run(self.name)
        again = self.prospect("one", verify=False)
        self.assertEqual(runs, database.newest_run(self.name))
        self.assertEqual(first.model_copy(update={"seconds": again.seconds}), again)

    def test_nothing_is_left_behind(self) -> None:
        self.edited("one", TEXTS, '"bob"', '"bob" ')
        self.prospect("one")
        folder = STATE / "projects" / self.name
        self.assertFalse((folder / "prospect").exists())
        refs = run_command(["git", "-C", folder / "mirror.git", "for-each-ref"]).stdout
        self.assertNotIn("prospect", refs)

    def test_json_holds_what_was_found(self) -> None:
        self.edited("one", TEXTS, '"bob"', '"bob" ')
        found = self.prospect("one", verify=False)
        told = json.loads(to_json(found))
        self.assertEqual("included", told["changes"][0]["state"])
        self.assertEqual(3, sum(told["rests_on"].values()))
        self.assertEqual(found, Prospect.model_validate(told))


def _conflict(change: object) -> tuple[object, ...]:
    return tuple(getattr(change, name) for name in ("state", "conflicts_with", "paths"))


class MistakeTest(ProspectCase):
    def test_unknown_ref(self) -> None:
        for ref in ("nonesuch", "refs/changes/01/1/1"):
            error = self.assertRaises(UsageError, self.prospect, ref)
            self.assertIn(ref, str(error))

    def test_no_ref(self) -> None:
        self.assertIn("No change was named", str(self.assertRaises(UsageError, self.prospect)))

    def test_unrelated_history(self) -> None:
        self.clone.repo.git.checkout("-q", "--orphan", "alien")
        self.clone.commit("Another world", {"notes.txt": "x"})
        self.clone.repo.git.checkout("-q", "master")
        error = self.assertRaises(UsageError, self.prospect, "alien")
        self.assertIn("alien shares no history with master", str(error))

    def test_branches_measured_in_one_alone(self) -> None:
        text = self.clone.read(".coveragerc") + "branch = True\n"
        self.branch("one", {".coveragerc": text})
        error = self.assertRaises(UsageError, self.prospect, "one")
        self.assertIn("only one measures branches", str(error))

    def test_command_tells_mistakes_in_one_sentence(self) -> None:
        command = [sys.executable, "-m", "covtrack", "prospect", "nonesuch"]
        done = run_command(
            command, cwd=self.root, env={**os.environ, "XDG_STATE_HOME": str(STATE)}
        )
        self.assertEqual(2, done.status)
        self.assertIn("Revision nonesuch is unknown", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
