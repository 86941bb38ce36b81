"""Cuts against whole snapshots: what lands together is the same, row by row, on real commits."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from fixtures import MonkeyPatch

from covtrack.prospect import Prospector
from covtrack.store.values import StoredRun
from jobs.diff import TreeDiff
from jobs.execution import parse_sources
from jobs.ground import set_up
from jobs.joining import OpenChange, Prospective, Reader
from jobs.landing import Landed, Landing
from jobs.prospective import Gains, Joined, Part, Tip, find_brought, find_gains, join
from jobs.results import Measurement
from tests.integration.test_prospect import AREA, MORE, SHAPES, TEXTS, ProspectCase
from tests.integration.test_tracking import STATE
from tests.whole_snapshots import WholeChange, WholeReader, read_ran
from venv_builder.progress import Stages


class Comparing(Prospector):
    """Joins twice: from cuts, and from whole snapshots."""

    held: list[WholeChange]
    ours: tuple[Tip, list[Part], list[str]]
    theirs: tuple[Tip, list[Part], list[str]]
    seen: list[tuple[TreeDiff, TreeDiff]]
    seen_blobs: list[tuple[Mapping[str, str], Mapping[str, str]]]
    joined: Joined
    measured: Measurement
    gains: Gains
    found: Prospective

    def _open_change(
        self,
        landing: Landing,
        change: Landed,
        runs: Mapping[str, StoredRun],
        below: tuple[str, ...],
    ) -> OpenChange:
        found = super()._open_change(landing, change, runs, below)
        database = self.tracker.database
        measured = self._base(runs[change.commit.sha])
        against = database.find_run(self.project.name, found.against)
        assert against is not None
        executed = self._executed_of(change, landing.tip.sha, below, measured.snapshot)
        self.held.append(
            WholeChange(measured=measured, against=self._base(against), executed=executed)
        )
        return found

    def _executed_of(
        self, change: Landed, tip: str, below: tuple[str, ...], snapshot: Path
    ) -> frozenset[str]:
        mirror, sha = self.mirror, change.commit.sha
        builds_on = mirror.nearest(sha, below)
        mine = mirror.ahead(tip, sha) - (mirror.ahead(tip, builds_on) if builds_on else set())
        ran = read_ran(snapshot)
        same = {
            other
            for other in ran - mine
            if mirror.has(other)
            and mirror.commit(other).tree == change.commit.tree
            and not mirror.is_ancestor(other, tip)
        }
        return frozenset({sha, *same, *(ran & mine)})

    def _join(self, landing: Landing, runs: Mapping[str, StoredRun]) -> Prospective:
        self.held, self.seen, self.seen_blobs = [], [], []
        tip = self._base(runs[landing.tip.sha])
        changes = self._order(landing, runs)
        request = self._request(landing, tip)
        request.places.scratch.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.callback(shutil.rmtree, request.places.scratch, ignore_errors=True)
            ground = set_up(request, Stages(self.tracker.listener), held)
            parsed = parse_sources(request, ground)
            reader, whole = Reader(request, ground, parsed), WholeReader(request, ground, parsed)
            parts = [reader.part(change) for change in changes]
            self.ours = reader.tip(tip, parts), parts, reader.notes
            then = [whole.part(change) for change in self.held]
            merged = landing.merged.sha
            for change in changes:
                seen = reader.views.beside(change.commit, change.against)
                self.seen.append((self.mirror.diff(change.commit, merged), seen.diff))
                self.seen_blobs.append((self.mirror.blobs(change.commit), seen.base_blobs))
            self.theirs = whole.tip(tip, then), then, whole.notes
            self.joined = join(self.theirs[0], then)
            self.measured = whole.measure(tip, self.joined, request.places.scratch / "joined")
            self.gains = find_gains(self.theirs[0], then, parsed.files, self.measured)
        self.found = super()._join(landing, runs)
        return self.found


class CutCase(ProspectCase):
    def compare(self, *refs: str, **settings: object) -> Comparing:
        """Join twice, and once more from cuts that are kept now; all is the same."""
        first = self._compare(refs, settings)
        again = self._compare(refs, settings)
        self.assertEqual((first.joined, first.gains), (again.joined, again.gains))
        return first

    def _compare(self, refs: tuple[str, ...], settings: Mapping[str, object]) -> Comparing:
        both = Comparing(self.make_tracker(), self.project(**settings))
        both.run(refs)
        (tip, parts, notes), (tip_then, parts_then, notes_then) = both.ours, both.theirs
        self.assertEqual(notes_then, notes)
        for git, ours in both.seen:
            self.assertEqual(git.by_old, ours.by_old)
            self.assertEqual(git.by_new, ours.by_new)
        for blobs, our_blobs in both.seen_blobs:
            self.assertEqual(blobs, our_blobs)
        self.assertEqual((tip_then.tests, tip_then.reached), (tip.tests, tip.reached))
        for then, now in zip(parts_then, parts, strict=True):
            for name in ("commit", "fresh", "gone", "spared"):
                self.assertEqual(getattr(then, name), getattr(now, name), name)
            self.assertEqual(then.reached & then.fresh.keys(), now.reached)
            self.assertEqual(_some(find_brought(then)), _some(find_brought(now)))
        self.assert_same(tip_then, both.joined, join(tip, parts))
        self.assertEqual(both.measured, both.found.measurement)
        self.assertEqual(both.gains, both.found.gains)
        self.assertEqual(both.joined.overlapping, both.found.overlapping)
        return both

    def assert_same(self, tip: Tip, then: Joined, now: Joined) -> None:
        """The joins are the same; rows that are just the tip's need not be told."""
        kept = {c for c in then.rows.keys() - now.rows.keys() if c not in now.dropped}
        self.assertEqual({c: tip.rows.get(c, {}) for c in kept}, {c: then.rows[c] for c in kept})
        told = {c: rows for c, rows in then.rows.items() if c not in kept}
        self.assertEqual((told, then.dropped - kept), (now.rows, now.dropped))
        self.assertEqual((then.tests, then.overlapping), (now.tests, now.overlapping))


def _some(brought: Mapping[str, set[int]]) -> dict[str, set[int]]:
    return {path: lines for path, lines in brought.items() if lines}


class SameTest(CutCase):
    def test_siblings_that_overlap_and_a_stack(self) -> None:
        """Bodies, a constant, a new test, a fixture; one change on top of another."""
        head, area = "    if width < 0:", "return width * height"
        self.edited("one", SHAPES, head, f"    width = int(width)\n{head}")
        self.edited("two", SHAPES, area, "return height * width")
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("three", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        self.edited(
            "four", SHAPES, "def untested", "def new():\n    return 2\n\n\ndef untested", "three"
        )
        self.edited("five", AREA, 'describe("triangle")', 'describe(name="triangle")')
        both = self.compare("one", "two", "three", "four", "five")
        self.assertIn("sample.tests.test_shapes.AreaTest.test_area", both.joined.overlapping)
        self.assertEqual({SHAPES: (23,)}, both.gains.own[self.sha("three")])

    def test_older_fork_and_a_rename_on_each_side(self) -> None:
        self.run_job()
        self.renamed(
            "one", SHAPES, "sample/forms.py", AREA, "import shapes", "import forms as shapes"
        )
        self.edited("two", TEXTS, '"bob"', '"rob"')
        self.clone.repo.git.mv("sample/texts.py", "sample/words.py")
        self.clone.replace(TEXTS, "import texts", "import words as texts")
        self.clone.commit_all("Rename texts")
        self.clone.replace(AREA, "shapes.area, -1, 3", "shapes.area, -2, 3")
        self.clone.commit_all("Go on")
        both = self.compare("one", "two")
        self.assertEqual(2, len(both.gains.own))

    def test_file_that_one_deletes_while_another_adds_one_like_it(self) -> None:
        """To which new file a rename leads hangs on what else is new."""
        text = "".join(f"def name_{n}():\n    return {n}\n\n\n" for n in range(20))
        test = "import unittest\nfrom sample import {0}\n\n\nclass Many(unittest.TestCase):\n"
        test += "    def test_many(self):\n        self.assertEqual(3, {0}.name_3())\n"
        name = "sample/tests/test_many.py"
        self.clone.commit("Add", {"sample/many.py": text, name: test.format("many")})
        self.run_job()
        other = text.replace("name_19", "other")
        self.branch(
            "one", {"sample/many.py": None, "sample/moved.py": other, name: test.format("moved")}
        )
        self.branch("two", {"sample/copy.py": text.replace("name_18", "copied")})
        self.edited("three", TEXTS, '"bob"', '"rob"')
        self.compare("one", "two", "three")

    def test_deleted_test_and_deleted_file(self) -> None:
        head, body = "    def test_negative(self):\n", "shapes.area, -1, 3)\n"
        self.edited("one", AREA, f"{head}        self.assertRaises(ValueError, {body}", "")
        self.branch("two", {TEXTS: None})
        both = self.compare("one", "two")
        self.assertEqual(1, len(both.joined.tests))

    def test_branches(self) -> None:
        text = self.clone.read(".coveragerc") + "branch = True\n"
        self.clone.commit("Branches", {".coveragerc": text})
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("one", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        self.edited("two", SHAPES, "SIDES =", "TOP = 1\nSIDES =")
        self.edited(
            "three", SHAPES, "    if width < 0:", "    width = 1 * width\n    if width < 0:"
        )
        self.compare("one", "two", "three")

    def test_other_settings_in_one(self) -> None:
        """Of what is recorded otherwise nothing is known to hold."""
        text = self.clone.read(".coveragerc") + "parallel = True\n"
        self.branch("one", {".coveragerc": text})
        self.edited("two", TEXTS, '"bob"', '"rob"')
        both = self.compare("one", "two")
        self.assertEqual(2, len(both.theirs[2]))

    def test_spared_tests(self) -> None:
        self.useFixture(MonkeyPatch("jobs.choosing.WORTH_SPARING", -1.0))
        self.useFixture(MonkeyPatch("jobs.proving.WORTH_CHOOSING", 2.0))
        more = "".join(
            f"    def test_more_{n}(self):\n        texts.greet('x')\n\n" for n in range(6)
        )
        text = self.clone.read(TEXTS)
        self.clone.commit("More", {TEXTS: f"{text}\n{more}"})
        self.run_job()
        self.edited("one", "sample/texts.py", '"hello "', '"hello" + " "')
        self.edited("two", AREA, "-1, 3", "-2, 3")
        both = self.compare("one", "two")
        self.assertTrue(both.theirs[1][0].spared)

    def test_damaged_and_foreign_cuts_are_made_anew(self) -> None:
        body = "self.assertEqual(1, shapes.untested())"
        self.branch("one", {"sample/tests/test_one.py": MORE.format(name="One", body=body)})
        self.edited("two", TEXTS, '"bob"', '"rob"')
        first = self.prospect("one", "two", verify=False)
        folder = STATE / "projects" / self.name / "cuts"
        one, two, *_ = cuts = sorted(folder.glob("*.cut"))
        bases = sorted(folder.glob("*.basis"))
        texts = {path: path.read_bytes() for path in (*cuts, *bases)}
        self.assertEqual((2, 1), (len(cuts), len(bases)))
        one.write_bytes(texts[two])  # another's, whole
        two.write_bytes(texts[two][:-1] + b"x")
        bases[0].write_bytes(b"")
        again = self.prospect("one", "two", verify=False)
        self.assertEqual(first.model_copy(update={"seconds": again.seconds}), again)
        self.assertEqual(texts, {path: path.read_bytes() for path in texts})

    def test_cut_stands_for_its_snapshot(self) -> None:
        """What is cut need not be read; what is not is measured anew where it is damaged."""
        self.edited("one", TEXTS, '"bob"', '"rob"')
        first = self.prospect("one", verify=False)
        folder = STATE / "projects" / self.name
        (snapshot,) = folder.glob("snapshots/changes/*.coverage")
        snapshot.chmod(0o644)
        snapshot.write_bytes(b"damaged")
        again = self.prospect("one", verify=False)
        self.assertEqual(first.model_copy(update={"seconds": again.seconds}), again)
        for path in folder.glob("cuts/*.cut"):
            path.unlink()
        anew = self.prospect("one", verify=False)
        self.assertEqual(first.after, anew.after)
        self.assertEqual(1, len(list(folder.glob("cuts/*.cut"))))
        suffixes = {path.suffix for path in folder.glob("snapshots/changes/*")}
        self.assertEqual({".corrupt", ".coverage"}, suffixes)

    def sha(self, name: str) -> str:
        """The commit of a branch."""
        return str(self.clone.repo.git.rev_parse(name))

    def renamed(self, name: str, old: str, new: str, test: str, before: str, after: str) -> None:
        """A branch that renames a file, and says so in a test."""
        self.clone.repo.git.checkout("-q", "-b", name)
        self.clone.repo.git.mv(old, new)
        self.clone.replace(test, before, after)
        self.clone.commit_all("Rename")
        self.clone.repo.git.checkout("-q", "master")
