"""The machine contract: keys, schemas, rounding."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import testtools
from hypothesis import given, settings
from hypothesis import strategies as st

from covtrack.contract import (
    FilesReport,
    ProjectReport,
    RunReport,
    percent_of,
    round_down,
    to_json,
)
from covtrack.schemas import schemas
from covtrack.store.values import ProjectRow
from jobs.results import Counts, FileMeasure, Measurement
from tests.samples import COPIED, NOON, OPEN, OWN, RESULT, RESULTS, make_stored

CHECKED_IN = Path(__file__).parents[2] / "docs" / "contract"
ROW = ProjectRow(
    project="demo",
    branch="master",
    target=Fraction(4, 5),
    latest=make_stored(),
    last_change=make_stored(commit="d" * 40, subject="Change it"),
)
BRANCHY = Measurement(
    files=(
        replace(OWN, counts=replace(OWN.counts, branches=6, branches_covered=5)),
        COPIED,
    )
)


def check(name: str, printed: str) -> Any:
    """The JSON value of `printed`, which the named schema allows."""
    value = json.loads(printed)
    jsonschema.validate(value, schemas()[name], cls=jsonschema.Draft202012Validator)
    return value


class RoundingTest(testtools.TestCase):
    @given(st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_never_up_and_less_than_a_hundredth_down(self, pair: tuple[int, int]) -> None:
        covered, statements = pair
        shown = Fraction(str(percent_of(Counts(statements=statements, covered=covered))))
        exact = Fraction(100 * covered, statements)
        self.assertTrue(0 <= exact - shown < Fraction(1, 100), (shown, exact))

    def test_all_but_one_is_not_all(self) -> None:
        self.assertEqual(99.99, percent_of(Counts(statements=10**6, covered=10**6 - 1)))
        self.assertEqual(100.0, percent_of(Counts(statements=3, covered=3)))

    def test_no_statements_is_unknown(self) -> None:
        self.assertIsNone(percent_of(Counts()))

    def test_a_target_with_decimals(self) -> None:
        self.assertEqual(82.5, round_down(Fraction("82.5") / 100))


class SchemaTest(testtools.TestCase):
    def test_the_checked_in_schemas_are_these(self) -> None:
        stored = {path.stem: json.loads(path.read_text()) for path in CHECKED_IN.glob("*.json")}
        self.assertEqual(schemas(), stored)

    def test_the_schemas_are_schemas(self) -> None:
        for schema in schemas().values():
            jsonschema.Draft202012Validator.check_schema(schema)

    def test_they_refuse_what_lacks_a_key_or_has_a_wrong_kind(self) -> None:
        good = json.loads(to_json(RunReport.from_result(RESULT)))
        for key in ("project", "tests", "files", "before", "cpu_seconds"):
            bad = {name: value for name, value in good.items() if name != key}
            self.assertRaises(
                jsonschema.ValidationError, jsonschema.validate, bad, schemas()["run"]
            )
        self.assertRaises(
            jsonschema.ValidationError,
            jsonschema.validate,
            {**good, "kind": "guess"},
            schemas()["run"],
        )

    def test_they_allow_keys_that_later_versions_add(self) -> None:
        later = {**json.loads(to_json(RunReport.from_result(RESULT))), "prospective": 1}
        jsonschema.validate(later, schemas()["run"])


class RunReportTest(testtools.TestCase):
    def test_the_whole_object(self) -> None:
        self.assertEqual(
            {
                "version": 1,
                "project": "demo",
                "branch": "master",
                "commit": "a" * 40,
                "base": "b" * 40,
                "select": "changed",
                "kind": "baseline",
                "complete": True,
                "tests": {
                    "run": 2,
                    "passed": 1,
                    "failed": 1,
                    "skipped": 0,
                    "carried": 5,
                    "deselected": 1,
                    "spared": 0,
                },
                "total": {"statements": 9, "covered": 7, "excluded": 1},
                "vendored": {"statements": 4, "covered": 1, "excluded": 0},
                "before": {
                    "total": {"statements": 8, "covered": 5, "excluded": 0},
                    "vendored": {"statements": 4, "covered": 1, "excluded": 0},
                },
                "files": {
                    "pkg/a.py": {
                        "vendored": False,
                        "statements": 9,
                        "covered": 7,
                        "missing": [3, 12],
                    },
                    "pkg/openstack/b.py": {
                        "vendored": True,
                        "statements": 4,
                        "covered": 1,
                        "missing": [1, 2, 4],
                    },
                },
                "faults": [
                    {
                        "kind": "test",
                        "subject": "t.Two",
                        "sentence": "It failed.",
                        "advice": "Mend it.",
                    }
                ],
                "carried_from": {"b" * 40: 4, "c" * 40: 1},
                "provisional": None,
                "recorder": "monitoring",
                "environment": "e" * 32,
                "notes": ["A note."],
                "patch": {
                    "parent": "b" * 40,
                    "statements": 4,
                    "covered": 2,
                    "uncovered": [
                        {"path": "pkg/a.py", "first": 3, "last": 3, "nearest_test": "t.One"},
                        {"path": "pkg/a.py", "first": 12, "last": 14, "nearest_test": None},
                    ],
                },
                "seconds": {"run": 2.5, "merge": 0.125},
                "cpu_seconds": 4.75,
            },
            check("run", to_json(RunReport.from_result(RESULT))),
        )

    def test_what_is_provisional_says_so(self) -> None:
        result = replace(RESULT, complete=False, provisional=OPEN)
        value = check("run", to_json(RunReport.from_result(result)))
        self.assertFalse(value["complete"])
        self.assertEqual(
            {
                "budget": 60.0,
                "tests_affected": 840,
                "tests_run": 12,
                "tests_left": 300,
                "seconds_left": 90.5,
                "ways_left": 2,
                "lines_undecided": 3,
                "undecided": {"pkg/a.py": [3], "pkg/c.py": [1, 7]},
            },
            value["provisional"],
        )

    def test_branch_counts_stand_beside_where_measured(self) -> None:
        value = check("run", to_json(RunReport.from_result(replace(RESULT, measurement=BRANCHY))))
        self.assertEqual((6, 5), (value["total"]["branches"], value["total"]["branches_covered"]))
        self.assertEqual(0, value["vendored"]["branches"])
        self.assertEqual(6, value["files"]["pkg/a.py"]["branches"])
        self.assertNotIn("branches", value["before"]["total"])

    def test_a_path_that_is_not_utf8_is_shown_with_escapes(self) -> None:
        odd = Measurement(files=(replace(OWN, path="pkg/\udcff.py"),))
        value = check("run", to_json(RunReport.from_result(replace(RESULT, measurement=odd))))
        self.assertEqual(["pkg/\\udcff.py"], list(value["files"]))

    @settings(max_examples=15)
    @given(RESULTS)
    def test_any_result_fits_the_schema_and_reads_back(self, result: Any) -> None:
        report = RunReport.from_result(result)
        printed = to_json(report)
        check("run", printed)
        self.assertEqual(report, RunReport.model_validate_json(printed))


class ProjectReportTest(testtools.TestCase):
    def test_a_measured_project(self) -> None:
        (value,) = check("projects", to_json((ProjectReport.from_row(ROW),)))
        self.assertEqual(
            {
                "project": "demo",
                "branch": "master",
                "commit": "a" * 40,
                "statements": 9,
                "covered": 7,
                "percent": 77.77,
                "target": 80.0,
                "to_target": 1,
                "complete": True,
                "vendored": {"statements": 4, "covered": 1, "excluded": 0},
                "last_change": {
                    "commit": "d" * 40,
                    "subject": "Change it",
                    "measured_at": "2026-05-04T12:00:00Z",
                    "provisional": False,
                },
                "measured_at": "2026-05-04T12:00:00Z",
                "ledger": None,
            },
            value,
        )

    def test_a_last_change_that_is_provisional(self) -> None:
        change = make_stored(complete=False, provisional=OPEN)
        value = check(
            "projects", to_json((ProjectReport.from_row(replace(ROW, last_change=change)),))
        )
        self.assertTrue(value[0]["last_change"]["provisional"])

    def test_one_that_was_never_measured_is_null_not_zero(self) -> None:
        row = replace(ROW, latest=None, last_change=None)
        (value,) = check("projects", to_json((ProjectReport.from_row(row),)))
        known = {"project": "demo", "branch": "master", "target": 80.0}
        self.assertEqual(known, {k: v for k, v in value.items() if v is not None})

    def test_the_schema_of_no_projects(self) -> None:
        self.assertEqual([], check("projects", to_json(())))

    def test_branch_counts(self) -> None:
        latest = make_stored(total=BRANCHY.total, measured_at=NOON)
        (value,) = check(
            "projects", to_json((ProjectReport.from_row(replace(ROW, latest=latest)),))
        )
        self.assertEqual((6, 5), (value["branches"], value["branches_covered"]))


class FilesReportTest(testtools.TestCase):
    def test_files_in_the_order_given(self) -> None:
        files: tuple[FileMeasure, ...] = (COPIED, OWN)
        value = check("files", to_json(FilesReport.from_values(ROW, files)))
        self.assertEqual(["pkg/openstack/b.py", "pkg/a.py"], [f["path"] for f in value["files"]])
        self.assertEqual(
            {
                "path": "pkg/a.py",
                "vendored": False,
                "statements": 9,
                "covered": 7,
                "excluded": 1,
                "percent": 77.77,
                "missing": [3, 12],
            },
            value["files"][1],
        )
