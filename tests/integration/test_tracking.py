"""Whole runs on a real clone: real git, env, stestr, coverage and SQLite; nothing is faked."""

from __future__ import annotations

import atexit
import random
import shutil
import tempfile
from pathlib import Path
from textwrap import dedent

import testtools

from covtrack.settings import Settings
from covtrack.store.database import Database
from covtrack.tracking import Order, Tracker
from jobs.project import ProjectSettings
from jobs.results import FaultKind, JobResult, Kind, Select
from tests.sample_project import SampleClone
from venv_builder import find_interpreters
from venv_builder.errors import UsageError
from venv_builder.progress import Event, Noted

# One state folder for all tests: they share the environment, as projects do.
STATE = Path(tempfile.mkdtemp(prefix="covtrack-tests-"))
atexit.register(shutil.rmtree, STATE, ignore_errors=True)

Covered = dict[str, tuple[int, tuple[int, ...]]]


def lines_of(result: JobResult) -> Covered:
    """What a result says of every file: statements, and the lines that did not run."""
    return {file.path: (file.counts.statements, file.missing) for file in result.measurement.files}


class TrackingCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.name = "-".join(("sample", *self.id().split(".")[-2:]))
        self.root = Path(tempfile.mkdtemp(prefix="clone-")) / "sample"
        self.addCleanup(shutil.rmtree, self.root.parent, ignore_errors=True)
        self.clone = SampleClone(self.root)
        self.notes: list[str] = []

    def make_tracker(self) -> Tracker:
        settings = Settings(state=STATE, projects={})
        database = Database.open(settings.database_url)
        self.addCleanup(database.close)
        return Tracker(settings, database, self.hear)

    def hear(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.sentence)

    def run_job(
        self, revision: str = "HEAD", select: Select | None = None, **settings: object
    ) -> JobResult:
        order = Order(revision=revision, select=select)
        return self.make_tracker().run(self.project(**settings), order)

    def project(self, **settings: object) -> ProjectSettings:
        return ProjectSettings.model_validate(
            {"name": self.name, "git": str(self.root), "branch": "master", **settings}
        )


class RunTest(TrackingCase):
    def test_first_run_measures_everything(self) -> None:
        result = self.run_job()
        self.assertEqual(Kind.BASELINE, result.kind)
        self.assertEqual((3, 3, 0), (result.tests.run, result.tests.passed, result.tests.carried))
        shapes = {file.path: file for file in result.measurement.files}["sample/shapes.py"]
        self.assertEqual((18,), shapes.missing)
        self.assertTrue(result.complete)
        self.assertEqual((), result.faults)

    def test_second_run_of_a_commit_carries_everything(self) -> None:
        first = self.run_job()
        again = self.run_job()
        self.assertEqual((0, 3), (again.tests.run, again.tests.carried))
        self.assertEqual(lines_of(first), lines_of(again))
        self.assertEqual({first.commit: 3}, dict(again.carried))

    def test_only_changed_test_files_run(self) -> None:
        self.run_job()
        for select, edit in (
            (Select.CHANGED, ('"bob"', '"bob" ')),
            (Select.AFFECTED, ('"bob"', '"Bob"')),
        ):
            self.clone.replace("sample/tests/test_texts.py", *edit)
            self.clone.commit_all("Touch a test")
            result = self.run_job(select=select)
            self.assertEqual(
                ["sample.tests.test_texts.GreetTest.test_greet"],
                [outcome.test for outcome in result.outcomes],
            )
            self.assertEqual(2, result.tests.carried)

    def test_moved_lines_stay_covered_and_touched_ones_do_not(self) -> None:
        self.run_job()
        self.clone.replace("sample/shapes.py", "SIDES =", "TOP = 1\nSIDES =")
        self.clone.replace("sample/shapes.py", "        name,\n", "        str(name),\n")
        self.clone.commit_all("Move lines, touch one statement")
        result = self.run_job(select=Select.CHANGED)
        missing = dict(lines_of(result))["sample/shapes.py"][1]
        self.assertEqual(0, result.tests.run)
        # The three-line return of describe() was touched; untested() moved down by one.
        self.assertEqual((12, 19), missing)

    def test_renamed_module_keeps_its_lines(self) -> None:
        self.run_job()
        self.clone.repo.git.mv("sample/texts.py", "sample/words.py")
        self.clone.replace("sample/tests/test_texts.py", "import texts", "import words as texts")
        self.clone.commit_all("Rename")
        result = self.run_job()
        self.assertEqual((), dict(lines_of(result))["sample/words.py"][1])
        self.assertNotIn("sample/texts.py", lines_of(result))

    def test_unmerged_change_forks_off_and_never_becomes_a_base(self) -> None:
        base = self.run_job()
        self.clone.repo.git.checkout("-q", "-b", "topic")
        self.clone.replace(
            "sample/tests/test_shapes.py",
            "shapes.area(2, 3))",
            "shapes.area(2, 3))\n        shapes.untested()",
        )
        change = self.run_job(self.clone.commit_all("Test more"))
        self.assertEqual((Kind.CHANGE, base.commit), (change.kind, change.base))
        self.assertEqual((), dict(lines_of(change))["sample/shapes.py"][1])
        self.clone.repo.git.checkout("-q", "master")
        merged = self.run_job(self.clone.commit("Other", {"notes.txt": "x"}))
        self.assertEqual(base.commit, merged.base)
        self.assertEqual((18,), dict(lines_of(merged))["sample/shapes.py"][1])

    def test_a_change_measured_again_is_still_compared_with_what_is_below_it(self) -> None:
        base = self.run_job()
        self.clone.repo.git.checkout("-q", "-b", "topic")
        self.clone.replace("sample/tests/test_shapes.py", "shapes.area(2, 3)", "6")
        commit = self.clone.commit_all("Test less")
        first, again = self.run_job(commit), self.run_job(commit)
        self.assertEqual(0, again.tests.run)
        self.assertEqual(lines_of(first), lines_of(again))
        self.assertEqual((base.commit, first.before), (again.base, again.before))
        assert again.before is not None
        self.assertLess(again.measurement.total.covered, again.before.total.covered)

    def test_change_without_a_baseline_has_one_made_first(self) -> None:
        fork = self.clone.repo.head.commit.hexsha
        self.clone.repo.git.checkout("-q", "-b", "topic")
        change = self.run_job(self.clone.commit("Change", {"notes.txt": "x"}))
        self.assertEqual((fork, 0, 3), (change.base, change.tests.run, change.tests.carried))

    def test_deleted_tests_are_gone(self) -> None:
        self.run_job()
        result = self.run_job(self.clone.commit("Drop", {"sample/tests/test_texts.py": None}))
        self.assertEqual((0, 2), (result.tests.run, result.tests.carried))

    def test_vendored_code_is_apart(self) -> None:
        files = {
            "openstack-common.conf": "[DEFAULT]\nmodule=log\nbase=sample\n",
            "sample/openstack/__init__.py": "",
            "sample/openstack/common/__init__.py": "",
            "sample/openstack/common/log.py": "def log():\n    return 1\n",
        }
        result = self.run_job(self.clone.commit("Copy code", files))
        self.assertEqual(2, result.measurement.vendored.statements)
        own = [file.path for file in result.measurement.files if not file.vendored]
        self.assertEqual(["sample/__init__.py", "sample/shapes.py", "sample/texts.py"], own)

    def test_branches_are_counted_where_the_project_asks(self) -> None:
        text = self.clone.read(".coveragerc") + "branch = True\n"
        result = self.run_job(self.clone.commit("Branches", {".coveragerc": text}))
        self.assertEqual(
            (2, 2), (result.measurement.total.branches, result.measurement.total.branches_covered)
        )

    def test_include_patterns_count_only_what_ran(self) -> None:
        files = {
            ".coveragerc": "[run]\ninclude = sample/*.py\n",
            "sample/never_imported.py": "X = 1\n",
        }
        result = self.run_job(self.clone.commit("Include", files))
        names = [file.path for file in result.measurement.files if file.counts.statements]
        self.assertEqual(["sample/shapes.py", "sample/texts.py"], names)

    def test_oldest_interpreter_gives_the_same_lines(self) -> None:
        if not any(found.version[:2] == (3, 9) for found in find_interpreters()):
            self.skipTest("no CPython 3.9 on this machine")
        usual = self.run_job()
        old = self.run_job(python="3.9")
        self.assertEqual((3, 3), (old.tests.run, old.tests.passed))
        self.assertEqual(lines_of(usual), lines_of(old))

    def test_both_recorders_give_the_same_lines(self) -> None:
        quick = self.run_job(select=Select.ALL)
        slow = self.run_job(select=Select.ALL, recorder="coverage")
        self.assertIn("coverage.py", slow.recorder)
        self.assertEqual(quick.measurement, slow.measurement)

    def test_serial_tests_run_in_a_worker_of_their_own(self) -> None:
        result = self.run_job(serial=[r"test_texts\."], workers=2)
        self.assertEqual(
            (3, 3, 0), (result.tests.run, result.tests.passed, result.tests.deselected)
        )

    def test_changed_coverage_settings_run_everything(self) -> None:
        self.run_job()
        text = self.clone.read(".coveragerc") + "branch = True\n"
        result = self.run_job(self.clone.commit("Branches", {".coveragerc": text}))
        self.assertEqual((3, 0), (result.tests.run, result.tests.carried))
        self.assertIn("All tests run.", "".join(result.notes))

    def test_unknown_revision_is_the_callers_fault(self) -> None:
        error = self.assertRaises(UsageError, self.run_job, "nonesuch")
        self.assertIn("nonesuch", str(error))

    def test_missing_distribution_is_an_environment_fault(self) -> None:
        test = "import nonesuch_lib\n"
        result = self.run_job(self.clone.commit("Import", {"sample/tests/test_more.py": test}))
        (fault,) = result.faults
        self.assertEqual(
            (FaultKind.ENVIRONMENT, "sample.tests.test_more"), (fault.kind, fault.subject)
        )
        self.assertIn("nonesuch-lib", fault.advice)
        self.assertFalse(result.complete)
        again = self.run_job()
        self.assertIsNone(again.base)

    def test_endless_test_is_named(self) -> None:
        test = """\
            import time
            import unittest


            class EndlessTest(unittest.TestCase):
                def test_endless(self):
                    time.sleep(3600)
            """
        commit = self.clone.commit("Sleep", {"sample/tests/test_endless.py": test})
        result = self.run_job(commit, timeout=6)
        (fault,) = result.faults
        self.assertEqual(FaultKind.TIME, fault.kind)
        self.assertIn("test_endless", fault.subject)
        self.assertFalse(result.complete)

    def test_tree_removed_by_a_test_is_no_baseline_and_heals(self) -> None:
        test = """\
            import os
            import shutil
            import unittest


            class RemoveTest(unittest.TestCase):
                def test_remove(self):
                    shutil.rmtree(os.getcwd(), ignore_errors=True)
            """
        whole = self.run_job()
        name = "sample/tests/test_aa.py"
        self.clone.commit("Remove", {name: test})
        damaged = self.run_job(select=Select.ALL, workers=1)
        self.assertEqual(whole.measurement.total.statements, damaged.measurement.total.statements)
        healed = self.run_job(self.clone.commit("Back", {name: None}), select=Select.ALL)
        self.assertEqual(lines_of(whole), lines_of(healed))

    def test_garbled_results_are_no_baseline(self) -> None:
        test = """\
            import os
            import unittest


            class GarbleTest(unittest.TestCase):
                def test_garble(self):
                    for fd in range(3, 30):
                        try:
                            if os.readlink("/proc/self/fd/%d" % fd).endswith("/stream"):
                                os.write(fd, b"\\xb3\\x29\\x00\\xff garbage" * 9)
                        except OSError:
                            continue

                def test_other(self):
                    self.fail("the real failure")
            """
        commit = self.clone.commit("Garble", {"sample/tests/test_garble.py": test})
        result = self.run_job(commit)
        lost = [fault for fault in result.faults if "left no result" in fault.sentence]
        failed = [fault for fault in result.faults if fault.kind is FaultKind.TEST]
        self.assertTrue(lost or len(failed) == 1, result.faults)
        self.assertEqual(not lost, result.complete)

    def test_links_and_exits_at_import(self) -> None:
        (self.root / "sample" / "dangling.py").symlink_to("nowhere.py")
        exits = {"sample/tests/test_exit.py": "raise SystemExit(0)\n"}
        result = self.run_job(self.clone.commit("Odd", exits), workers=1)
        self.assertEqual(["sample.tests.test_exit"], [fault.subject for fault in result.faults])
        self.assertEqual((FaultKind.IMPORT, 4), (result.faults[0].kind, result.tests.run))

    def test_corrupt_snapshot_is_set_aside_and_measured_anew(self) -> None:
        first = self.run_job()
        first.snapshot.chmod(0o644)
        first.snapshot.write_bytes(first.snapshot.read_bytes()[:5000])
        again = self.run_job()
        self.assertEqual(lines_of(first), lines_of(again))
        self.assertEqual(3, again.tests.run)
        self.assertIn("damaged", "".join(self.notes))

    def test_company_fault(self) -> None:
        setter = """\
            import unittest

            import sample


            class SetTest(unittest.TestCase):
                def test_set(self):
                    sample.READY = True
            """
        user = """\
            import unittest

            import sample


            class UseTest(unittest.TestCase):
                def test_use(self):
                    self.assertTrue(sample.READY)
            """
        names = ("sample/tests/test_a_setter.py", "sample/tests/test_b_user.py")
        self.clone.commit("Company", dict(zip(names, (setter, user), strict=True)))
        first = self.run_job(workers=1)
        self.assertEqual((), first.faults)
        self.clone.commit("Touch", {names[1]: dedent(user).replace("READY", "READY, 1")})
        (fault,) = self.run_job(workers=1).faults
        self.assertEqual(FaultKind.COMPANY, fault.kind)


class ExactnessTest(TrackingCase):
    """The original method: where the test files of all affected tests change too, lines are exact.

    tests/integration/test_histories.py has the same of affected tests.
    """

    def test_random_history(self) -> None:
        self.follow_random_history(10)

    def test_random_history_with_branches(self) -> None:
        text = self.clone.read(".coveragerc") + "branch = True\n"
        self.clone.commit("Branches", {".coveragerc": text})
        self.follow_random_history(6)

    def follow_random_history(self, steps: int) -> None:
        chance = random.Random(20261123)
        self.run_job()
        for number in range(steps):
            edit = chance.choice(EDITS)
            edit(self.clone, number)
            for test in ("sample/tests/test_shapes.py", "sample/tests/test_texts.py"):
                if edit in REACHES_ALL or test.removeprefix("sample/tests/test_")[:-3] in str(
                    self.clone.repo.git.diff("--name-only")
                ):
                    self.clone.replace(test, "import unittest", f"import unittest  # {number}")
            commit = self.clone.commit_all(edit.__name__)
            incremental = self.run_job(commit, select=Select.CHANGED)
            full = self.run_job(commit, select=Select.ALL)
            self.assertEqual(lines_of(full), lines_of(incremental), edit.__name__)
            self.assertEqual(full.measurement, incremental.measurement)


def insert_on_top(clone: SampleClone, number: int) -> None:
    clone.replace("sample/shapes.py", "SIDES =", f"TOP_{number} = {number}\nSIDES =")


def change_body(clone: SampleClone, number: int) -> None:
    clone.replace(
        "sample/shapes.py", "    if width < 0:", f"    kept = {number}\n    if width < 0:"
    )


def append_untested(clone: SampleClone, number: int) -> None:
    text = clone.read("sample/texts.py")
    (clone.root / "sample/texts.py").write_text(f"{text}\n\ndef more_{number}():\n    return 1\n")


def move_function(clone: SampleClone, number: int) -> None:
    text = clone.read("sample/shapes.py")
    function = "\n\ndef untested():\n    return 1\n"
    rest = text.replace(function, "")
    (clone.root / "sample/shapes.py").write_text(rest + function)


def change_decorator(clone: SampleClone, number: int) -> None:
    clone.replace(
        "sample/texts.py",
        "def wrapper(*args):",
        f"def wrapper(*args):\n            kept = {number}",
    )


def guard_import_code(clone: SampleClone, number: int) -> None:
    clone.replace("sample/shapes.py", "SIDES =", f"if {number} > 100:\n    SIDES = None\nSIDES =")


def delete_test(clone: SampleClone, number: int) -> None:
    text = clone.read("sample/tests/test_shapes.py")
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if "test_negative" not in line and "-1, 3" not in line]
    (clone.root / "sample/tests/test_shapes.py").write_text("".join(kept) + f"# {number}\n")


EDITS = (
    insert_on_top,
    change_body,
    append_untested,
    move_function,
    change_decorator,
    guard_import_code,
    delete_test,
)
REACHES_ALL = (change_decorator, guard_import_code)
