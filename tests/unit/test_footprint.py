"""jobs.footprint against real small snapshots, written as a job writes them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from coverage import CoverageData
from hypothesis import given, settings
from hypothesis import strategies as st
from testtools import TestCase

from jobs.footprint import Footprints, Touch
from jobs.merge import MergePlan
from jobs.snapshot import Circumstances, read_contexts, read_executed, read_rows
from jobs.snapshot_writing import write_snapshot
from jobs.tip_footprints import TipFootprints

UNDER = Circumstances(recording="r", variables="v", entry_points="e", distributions={})
# {context: {file: lines}}
Lines = Mapping[str, Mapping[str, Sequence[int]]]
LINES: Lines = {
    "t.T.one": {"a.py": [3, 4, 9], "t.py": [5]},
    "t.T.two": {"a.py": [9], "b.py": [1]},
    "a.py:import": {"a.py": [1, 2]},
    "t.T:setUpClass": {"a.py": [64]},
}
MEASURED = ("a.py", "b.py", "never.py")


class FootprintCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(
        self,
        lines: Lines | None = None,
        *,
        arcs: bool = False,
        touched: Sequence[Mapping[str, Mapping[str, Sequence[str]]]] = (),
    ) -> Footprints:
        """The footprints of a snapshot in which these lines ran; t.py is not measured."""
        fresh = self.folder / "fresh"
        fresh.unlink(missing_ok=True)
        data = CoverageData(str(fresh))
        for context, files in (LINES if lines is None else lines).items():
            data.set_context(context)
            if arcs:
                pairs = {f: [(-1, n[0]), *pairwise(n), (n[-1], -1)] for f, n in files.items()}
                data.add_arcs(pairs)
            else:
                data.add_lines(files)
        data.write()
        data.close()
        notes = []
        for number, noted in enumerate(touched):
            notes.append(self.folder / f"footprint-{number}.json")
            notes[-1].write_text(json.dumps(noted))
        target = self.folder / "snapshot"
        write_snapshot(
            target,
            base=None,
            plan=MergePlan(dropped=frozenset(), moves={}),
            fresh=[fresh],
            tests=(),
            measured=MEASURED,
            key="k",
            circumstances=UNDER,
            touched=notes,
        )
        footprints = Footprints(target)
        self.addCleanup(footprints.close)
        return footprints


class LinesTest(FootprintCase):
    def test_running(self) -> None:
        for arcs in (False, True):
            found = self.write(arcs=arcs)
            for path, spans, expected in (
                ("a.py", [(3, 3)], {"t.T.one"}),
                ("a.py", [(1, 4)], {"t.T.one", "a.py:import"}),
                ("a.py", [(9, 12)], {"t.T.one", "t.T.two"}),
                ("a.py", [(5, 8), (10, 63)], set()),
                ("a.py", [(5, 8), (60, 64)], {"t.T:setUpClass"}),
                ("a.py", [(65, 10_000)], set()),
                ("a.py", [], set()),
                ("t.py", [(5, 5)], {"t.T.one"}),
                ("t.py", [(6, 9)], set()),
                ("nothing.py", [(1, 9)], set()),
            ):
                self.assertEqual(expected, found.running(path, spans), f"{arcs} {path} {spans}")

    def test_measures_what_counts_alone(self) -> None:
        found = self.write()
        names = ("a.py", "never.py", "t.py", "nothing.py")
        self.assertEqual([True, True, False, False], [found.measures(name) for name in names])

    def test_using(self) -> None:
        for arcs in (False, True):
            found = self.write(arcs=arcs)
            self.assertEqual(set(LINES), found.using(["a.py"]))
            self.assertEqual({"t.T.one", "t.T.two"}, found.using(["b.py", "t.py"]))
            self.assertEqual(set(), found.using(["never.py", "nothing.py"]))
            self.assertEqual(set(), found.using([]))

    def test_imported(self) -> None:
        lines = {**LINES, "odd_name.py:import": {"a.py": [7]}, "t.T.x:important": {"a.py": [7]}}
        self.assertEqual({"a.py", "odd_name.py"}, self.write(lines).imported())

    @settings(max_examples=25)
    @given(
        st.dictionaries(
            st.sampled_from(["x", "y", "z"]),
            st.sets(st.integers(1, 40), min_size=1).map(sorted),
            min_size=1,
        ),
        st.lists(st.tuples(st.integers(1, 45), st.integers(0, 9)), max_size=3),
    )
    def test_running_by_definition(
        self, ran: dict[str, list[int]], starts: list[tuple[int, int]]
    ) -> None:
        spans = [(first, first + more) for first, more in starts]
        wanted = {line for first, last in spans for line in range(first, last + 1)}
        expected = {context for context, lines in ran.items() if wanted.intersection(lines)}
        found = self.write({context: {"a.py": lines} for context, lines in ran.items()})
        self.assertEqual(expected, found.running("a.py", spans))
        found.close()


class ReadOnceTest(FootprintCase):
    """All rows read at once tell the same."""

    def test_same_answers(self) -> None:
        for arcs in (False, True):
            one = self.write(arcs=arcs, touched=[{"import": {"pkg": ["t.T.one"]}}])
            snapshot = self.folder / "snapshot"
            all_rows = TipFootprints(snapshot)
            for path in ("a.py", "b.py", "t.py", "never.py", "nothing.py"):
                for spans in ([(1, 4)], [(5, 12)], [(9, 90)], []):
                    self.assertEqual(one.running(path, spans), all_rows.running(path, spans))
                self.assertEqual(one.measures(path), all_rows.measures(path))
                self.assertEqual(one.using([path, "a.py"]), all_rows.using([path, "a.py"]))
            self.assertEqual({"pkg": ["t.T.one"]}, all_rows.touched(Touch.IMPORT))
            self.assertEqual({"t.T.one"}, all_rows.touching(Touch.IMPORT, ["pkg"]))
            names = read_contexts(snapshot)
            self.assertEqual(read_rows(snapshot, names), all_rows.read_rows(names))
            self.assertEqual(read_executed(snapshot), all_rows.executed())
            left = read_rows(snapshot, names - {"t.T.one"})
            for path, ran in all_rows.executed(frozenset({"t.T.one"})).items():
                found = [files[path] for files in left.values() if path in files]
                self.assertEqual({arc for one in found for arc in one.arcs}, ran.arcs)
                if not arcs:
                    self.assertEqual({line for one in found for line in one.lines}, ran.lines)


class TouchedTest(FootprintCase):
    def setUp(self) -> None:
        super().setUp()
        one = {
            "import": {"pkg.mod": ["t.T.one", "t.T.two"]},
            "open": {"pkg/data.txt": ["t.T.one"], "pkg/mod": ["new.T.test"]},
            "list": {"pkg": ["t:fixtures"]},
        }
        two = {"import": {}, "open": {"pkg/data.txt": ["t.T.two", "t.T.one"]}, "list": {}}
        self.found = self.write(touched=[one, two])

    def test_touching(self) -> None:
        for kind, names, expected in (
            (Touch.OPEN, ["pkg/data.txt"], {"t.T.one", "t.T.two"}),
            (Touch.OPEN, ["pkg/mod", "pkg"], {"new.T.test"}),
            (Touch.LIST, ["pkg"], {"t:fixtures"}),
            (Touch.LIST, ["pkg/data.txt"], set()),
            (Touch.IMPORT, ["pkg.mod"], {"t.T.one", "t.T.two"}),
            (Touch.IMPORT, [], set()),
        ):
            self.assertEqual(expected, self.found.touching(kind, names), f"{kind} {names}")

    def test_touched(self) -> None:
        self.assertEqual(
            {"pkg.mod": {"t.T.one", "t.T.two"}},
            {name: set(found) for name, found in self.found.touched(Touch.IMPORT).items()},
        )
