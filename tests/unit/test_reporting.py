"""The reports: rows, order, rounding, what is unknown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise

import testtools
from hypothesis import given
from hypothesis import strategies as st

from covtrack.reporting import (
    Format,
    by_gain,
    describe,
    render_files,
    render_projects,
    show_age,
    show_lines,
    show_percent,
)
from covtrack.store.values import ProjectRow
from jobs.results import Counts, FileMeasure
from tests.samples import COPIED, NOON, OWN, make_stored

LATER = NOON + timedelta(hours=3, minutes=20)
DEMO = ProjectRow(
    project="demo",
    branch="master",
    target=Fraction(4, 5),
    latest=make_stored(),
    last_change=make_stored(subject="Add | a thing"),
)
BIG = ProjectRow(
    project="big",
    branch="master",
    target=Fraction(9, 10),
    latest=make_stored(
        total=Counts(statements=10_000, covered=9_999), vendored=Counts(), commit="d" * 40
    ),
    last_change=None,
)
NEVER = ProjectRow(
    project="new", branch="master", target=Fraction("0.825"), latest=None, last_change=None
)
PARTIAL = replace(DEMO, latest=make_stored(complete=False), last_change=None)
FILES = (OWN, COPIED, replace(OWN, path="pkg/z.py", counts=Counts(statements=9), missing=(1,)))


def records(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text by title."""
    return list(csv.DictReader(io.StringIO(text)))


class ProjectsTableTest(testtools.TestCase):
    def test_the_whole_table(self) -> None:
        self.assertEqual(
            "project                   statements  covered        %  target    to go"
            "  commit        age  last change\n"
            "big                           10,000    9,999    99.99      90        0"
            "  dddddddddd    3 h\n"
            "demo                               9        7    77.77      80        1"
            "  aaaaaaaaaa    3 h  Add | a thing\n"
            "  vendored                         4        1    25.00\n"
            "new                                            unknown    82.5  unknown"
            "              never\n"
            "total of 2 of 3 projects      10,009   10,006    99.97                1\n"
            "total vendored                     4        1    25.00\n",
            render_projects([BIG, DEMO, NEVER], Format.TABLE, LATER),
        )

    def test_an_incomplete_figure_says_so(self) -> None:
        for format in (Format.TABLE, Format.MARKDOWN):
            text = render_projects([PARTIAL], format, LATER)
            self.assertIn("*77.77", text)
            self.assertIn("incomplete: some tests could not run", text)
            self.assertNotIn("incomplete", render_projects([DEMO], format, LATER))
        self.assertEqual(
            "no", records(render_projects([PARTIAL], Format.CSV, LATER))[0]["complete"]
        )
        (value,) = json.loads(render_projects([PARTIAL], Format.JSON, LATER))
        self.assertFalse(value["complete"])

    def test_a_project_without_statements_is_unknown_not_full(self) -> None:
        row = replace(BIG, latest=make_stored(total=Counts(), vendored=Counts()))
        text = render_projects([row], Format.TABLE, LATER)
        self.assertIn("unknown", text)
        self.assertNotIn("100", text)
        self.assertEqual(
            "unknown", records(render_projects([row], Format.CSV, LATER))[0]["percent"]
        )

    def test_no_projects(self) -> None:
        self.assertEqual("There are no projects yet.\n", render_projects([], Format.TABLE, LATER))
        self.assertEqual("[]\n", render_projects([], Format.JSON, LATER))
        self.assertEqual([], records(render_projects([], Format.CSV, LATER)))

    def test_only_projects_that_were_never_measured_have_no_total(self) -> None:
        text = render_projects([NEVER], Format.TABLE, LATER)
        self.assertIn("never", text)
        self.assertNotIn("total", text)

    def test_a_narrow_terminal_keeps_name_percentage_and_what_is_to_go(self) -> None:
        lines = render_projects([BIG, DEMO], Format.TABLE, LATER, width=34).splitlines()
        self.assertEqual(["project", "%", "to", "go"], lines[0].split())
        self.assertTrue(all(len(line) <= 34 for line in lines))


class ProjectsOtherFormatsTest(testtools.TestCase):
    def test_csv_has_own_and_vendored_code_and_a_total(self) -> None:
        text = render_projects([BIG, DEMO, NEVER], Format.CSV, LATER)
        self.assertEqual(
            [
                ("big", "own", "10000", "99.99", "0"),
                ("demo", "own", "9", "77.77", "1"),
                ("demo", "vendored", "4", "25.00", ""),
                ("new", "own", "", "unknown", ""),
                ("total", "own", "10009", "99.97", "1"),
                ("total", "vendored", "4", "25.00", ""),
            ],
            [
                (r["project"], r["code"], r["statements"], r["percent"], r["to_target"])
                for r in records(text)
            ],
        )
        self.assertEqual("never", records(text)[3]["measured_at"])

    def test_csv_defuses_a_subject(self) -> None:
        row = replace(DEMO, last_change=make_stored(subject="=cmd()|'x'"))
        text = render_projects([row], Format.CSV, LATER)
        self.assertEqual("'=cmd()|'x'", records(text)[0]["last_change"])

    def test_markdown_escapes_a_subject(self) -> None:
        text = render_projects([DEMO], Format.MARKDOWN, LATER)
        self.assertIn("| Add \\| a thing |", text)
        self.assertIn("| **total** | **9** | **7** | **77.77** |", text)

    def test_json_has_a_project_each(self) -> None:
        value = json.loads(render_projects([BIG, NEVER], Format.JSON, LATER))
        self.assertEqual(
            [("big", 99.99), ("new", None)], [(p["project"], p["percent"]) for p in value]
        )


class FilesTest(testtools.TestCase):
    def test_the_whole_table(self) -> None:
        self.assertEqual(
            "demo master at aaaaaaaaaa: 77.77 % of 9 statements are covered; "
            "1 more reach the target of 80 %.\n\n"
            "file                statements  covered  missing      %  missing lines\n"
            "pkg/z.py                     9        0        9   0.00  1\n"
            "pkg/a.py                     9        7        2  77.77  3, 12\n"
            "total                       18        7       11  38.88\n"
            "pkg/openstack/b.py           4        1        3  25.00  1-2, 4\n"
            "total vendored               4        1        3  25.00\n",
            render_files(DEMO, FILES, Format.TABLE),
        )

    def test_the_order_is_the_same_in_all_formats(self) -> None:
        paths = ["pkg/z.py", "pkg/a.py", "pkg/openstack/b.py"]
        value = json.loads(render_files(DEMO, FILES, Format.JSON))
        self.assertEqual(paths, [file["path"] for file in value["files"]])
        rows = records(render_files(DEMO, FILES, Format.CSV))
        self.assertEqual(paths, [row["path"] for row in rows])
        markdown = render_files(DEMO, FILES, Format.MARKDOWN)
        self.assertEqual(sorted(paths, key=markdown.index), paths)

    @given(st.permutations(FILES))
    def test_the_order_of_the_input_does_not_matter(self, files: list[FileMeasure]) -> None:
        self.assertEqual(by_gain(FILES), by_gain(files))

    def test_a_project_that_was_never_measured(self) -> None:
        self.assertEqual("new master was never measured.\n", render_files(NEVER, (), Format.TABLE))
        self.assertEqual([], json.loads(render_files(NEVER, (), Format.JSON))["files"])

    def test_describe_tells_met_targets_and_doubts(self) -> None:
        self.assertIn("that meets the target of 90 %", describe(BIG))
        self.assertIn("incomplete", describe(PARTIAL))
        self.assertIn("unknown", describe(replace(BIG, latest=make_stored(total=Counts()))))


class WordsTest(testtools.TestCase):
    def test_ages_are_rounded_down(self) -> None:
        for seconds, shown in (
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (48 * 3600 - 1, "47 h"),
            (48 * 3600, "2 d"),
            (729 * 86400, "729 d"),
            (730 * 86400, "2 y"),
            (-5, "0 s"),
        ):
            self.assertEqual(shown, show_age(NOON, NOON + timedelta(seconds=seconds)))

    @given(st.frozensets(st.integers(1, 60)))
    def test_ranges_hold_just_the_lines(self, lines: frozenset[int]) -> None:
        shown = show_lines(sorted(lines))
        spans = [span.split("-") for span in shown.split(", ") if span]
        back = [n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)]
        self.assertEqual(sorted(lines), back)
        self.assertTrue(all(int(b[0]) > int(a[-1]) + 1 for a, b in pairwise(spans)))

    def test_percentages_have_two_decimals(self) -> None:
        self.assertEqual("50.00", show_percent(Counts(statements=2, covered=1)))
        self.assertEqual("66.66", show_percent(Counts(statements=3, covered=2)))
        self.assertEqual("unknown", show_percent(Counts()))
