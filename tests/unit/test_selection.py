"""jobs.selection against the original method's definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.results import Select
from jobs.selection import select_modules
from jobs.suite import TestModule

MODULES = tuple(TestModule(name=f"t.test_{n}", path=f"t/test_{n}.py") for n in "abcd")
PATHS = st.frozensets(st.sampled_from([*(m.path for m in MODULES), "pkg/code.py", "README"]))
NAMES = st.frozensets(st.sampled_from([*(m.name for m in MODULES), "t.test_gone"]))


class SelectModulesTest(TestCase):
    @given(changed=PATHS, measured=NAMES)
    def test_changed_test_files_run(
        self, changed: frozenset[str], measured: frozenset[str]
    ) -> None:
        chosen = select_modules(Select.CHANGED, MODULES, changed, measured)
        self.assertEqual(tuple(m for m in MODULES if m.path in changed), chosen.run)
        self.assertEqual(measured & {"t.test_gone"}, chosen.gone)
        self.assertTrue(chosen.carry)
        self.assertEqual((), chosen.notes)

    def test_everything_runs_without_a_base_or_when_asked(self) -> None:
        for select, changed in ((Select.ALL, ["x"]), (Select.CHANGED, None), (Select.ALL, None)):
            chosen = select_modules(select, MODULES, changed, [])
            self.assertEqual((MODULES, False), (chosen.run, chosen.carry))
            self.assertEqual((), chosen.notes)

    def test_everything_runs_on_a_base_that_is_no_good(self) -> None:
        chosen = select_modules(
            Select.CHANGED, MODULES, ["x"], ["t.test_gone"], invalid_base="Settings changed."
        )
        self.assertEqual((MODULES, False), (chosen.run, chosen.carry))
        self.assertEqual({"t.test_gone"}, chosen.gone)
        (note,) = chosen.notes
        self.assertIn("Settings changed.", note)

    def test_package_that_loads_its_own_tests_runs_for_any_file_in_it(self) -> None:
        package = TestModule(name="t.deep", path="t/deep/__init__.py", package=True)
        for path, runs in (("t/deep/x/y.py", True), ("t/deeper/y.py", False)):
            chosen = select_modules(Select.CHANGED, [package], [path], [])
            self.assertEqual(runs, bool(chosen.run), path)
