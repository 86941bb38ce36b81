"""jobs.selection: the original method by its definition, and affected tests by their contexts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from jobs.affected import Reached
from jobs.selection import select_affected, select_all, select_changed
from jobs.suite import TestModule

MODULES = tuple(TestModule(name=f"t.test_{n}", path=f"t/test_{n}.py") for n in "abcd")
PATHS = st.frozensets(st.sampled_from([*(m.path for m in MODULES), "pkg/code.py", "README"]))
NAMES = st.frozensets(st.sampled_from([*(m.name for m in MODULES), "t.test_gone"]))


class SelectModulesTest(TestCase):
    @given(changed=PATHS, measured=NAMES)
    def test_changed_test_files_run(
        self, changed: frozenset[str], measured: frozenset[str]
    ) -> None:
        chosen = select_changed(MODULES, changed, measured, ["pkg/code.py"])
        self.assertEqual(tuple(m for m in MODULES if m.path in changed), chosen.run)
        self.assertEqual(measured & {"t.test_gone"}, chosen.gone)
        self.assertEqual({"pkg/code.py"}, chosen.imports)
        self.assertEqual(frozenset(), chosen.skip)
        self.assertTrue(chosen.carry)
        self.assertEqual((), chosen.notes)

    def test_everything_runs_and_says_why(self) -> None:
        chosen = select_all(MODULES, ["t.test_gone"], "It is a full run.")
        self.assertEqual((MODULES, False), (chosen.run, chosen.carry))
        self.assertEqual({"t.test_gone"}, chosen.gone)
        self.assertEqual((), chosen.notes)
        self.assertEqual("it is a full run", chosen.reason("t.test_a.T.x", "t.test_a"))
        noted = select_all(MODULES, [], "Settings changed.", note=True)
        self.assertEqual(("Settings changed. All tests run.",), noted.notes)

    def test_package_that_loads_its_own_tests_runs_for_any_file_in_it(self) -> None:
        package = TestModule(name="t.deep", path="t/deep/__init__.py", package=True)
        for path, runs in (("t/deep/x/y.py", True), ("t/deeper/y.py", False)):
            chosen = select_changed([package], [path], [], [])
            self.assertEqual(runs, bool(chosen.run), path)


KNOWN = {
    "t.test_a.T.one": "t.test_a",
    "t.test_a.T.two": "t.test_a",
    "t.test_a.U.three": "t.test_a",
    "t.test_b.T.many(x)": "t.test_b",
    "t.test_b.T.many(y)": "t.test_b",
    "t.test_gone.T.old": "t.test_gone",
}


class SelectAffectedTest(TestCase):
    def names(self, **reached: dict[str, str]) -> tuple[set[str], set[str]]:
        """Modules that are loaded, and known tests of these that run."""
        chosen = select_affected(MODULES[:2], KNOWN, Reached(**reached))
        loaded = {module.name for module in chosen.run}
        self.assertEqual({"t.test_gone"}, chosen.gone)
        ran = {t for t, m in KNOWN.items() if m in loaded and t not in chosen.skip}
        return loaded, ran

    def test_nothing_runs_for_nothing(self) -> None:
        self.assertEqual((set(), set()), self.names())

    def test_a_test_runs_alone(self) -> None:
        found = self.names(contexts={"t.test_a.T.one": "why"})
        self.assertEqual(({"t.test_a"}, {"t.test_a.T.one"}), found)

    def test_a_fixture_stands_for_the_tests_that_it_serves(self) -> None:
        for fixture, expected in (
            ("t.test_a.T:setUpClass", {"t.test_a.T.one", "t.test_a.T.two"}),
            ("t.test_a:setUpModule", {t for t in KNOWN if "test_a" in t}),
            ("t.test_a:fixtures", {t for t in KNOWN if "test_a" in t}),
            ("t.test_b:load_tests", {t for t in KNOWN if "test_b" in t}),
        ):
            self.assertEqual(expected, self.names(contexts={fixture: "why"})[1], fixture)

    def test_a_fixture_that_failed_stands_for_tests_that_are_not_known(self) -> None:
        known = {"setUpClass (t.test_a.T)": "t.test_a", "t.test_a.U.three": "t.test_a"}
        reached = Reached(contexts={"t.test_a.T:setUpClass": "why"})
        chosen = select_affected(MODULES[:2], known, reached)
        self.assertIn(MODULES[0], chosen.run)
        self.assertNotIn("setUpClass (t.test_a.T)", chosen.skip)
        self.assertIn("t.test_a.U.three", chosen.skip)

    def test_what_belongs_to_nobody_stands_for_all(self) -> None:
        loaded, ran = self.names(contexts={"": "why"})
        self.assertEqual({t for t in KNOWN if "gone" not in t}, ran)
        self.assertEqual({"t.test_a", "t.test_b"}, loaded)

    def test_one_scenario_has_the_others_of_its_name_loaded_but_skipped_by_id(self) -> None:
        chosen = select_affected(
            MODULES[:2], KNOWN, Reached(contexts={"t.test_b.T.many(x)": "why"})
        )
        self.assertIn("t.test_b.T.many(y)", chosen.skip)
        self.assertNotIn("t.test_b.T.many", chosen.skip)

    def test_a_module_that_may_hold_other_tests_is_loaded_with_all_known_ones_skipped(
        self,
    ) -> None:
        loaded, ran = self.names(modules={"t/test_a.py": "why"})
        self.assertEqual(({"t.test_a"}, set()), (loaded, ran))

    def test_a_new_module_runs_whole(self) -> None:
        chosen = select_affected(MODULES[:3], KNOWN, Reached())
        self.assertEqual(("t.test_c",), tuple(module.name for module in chosen.run))
        self.assertEqual("t/test_c.py is new", chosen.reason("t.test_c.T.x", "t.test_c"))
