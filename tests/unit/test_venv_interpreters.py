"""Choice among interpreters, and errors told of uv's output."""

from __future__ import annotations

from pathlib import Path

import testtools

from venv_builder.construction import UnbuildableError, explain_failure
from venv_builder.errors import UsageError
from venv_builder.interpreters import Interpreter, matching, pick_interpreter
from venv_builder.processes import Completed
from venv_builder.resolution import free_tools
from venv_builder.uv_tool import scrub, shorten


def completed(stderr: str, status: int = 1) -> Completed:
    return Completed(argv=("uv",), status=status, stdout="", stderr=stderr, seconds=0.0)


class ChoiceTest(testtools.TestCase):
    def test_numbers_match_whole_parts(self) -> None:
        found = [
            Interpreter(path=Path(f"/{minor}"), version=(3, minor, 4)) for minor in (1, 10, 12)
        ]
        self.assertEqual([(3, 1, 4)], [one.version for one in matching(found, "3.1")])
        self.assertEqual([(3, 12, 4)], [one.version for one in matching(found, "3.12.4")])
        self.assertEqual((), matching(found, "3.12.5"))

    def test_unknown_version_names_what_was_found(self) -> None:
        error = self.assertRaises(UsageError, pick_interpreter, "3.4")
        self.assertIn("No CPython 3.4", error.sentence)
        self.assertIn("Found: 3.", error.advice)

    def test_path_that_is_none(self) -> None:
        error = self.assertRaises(UsageError, pick_interpreter, "/no/such/python")
        self.assertIn("/no/such/python", error.sentence)

    def test_old_and_foreign_interpreters_are_unsuitable(self) -> None:
        self.assertFalse(Interpreter(path=Path("/p"), version=(3, 8, 1)).suitable)
        pypy = Interpreter(path=Path("/p"), version=(3, 11, 1), implementation="pypy")
        self.assertFalse(pypy.suitable)
        self.assertTrue(Interpreter(path=Path("/p"), version=(3, 9, 0)).suitable)


class UvOutputTest(testtools.TestCase):
    def test_a_build_failure_names_distribution_and_header(self) -> None:
        error = explain_failure(
            completed(
                "error: Failed to build `python-ldap==3.4.7`\n"
                "  Modules/common.h:15:10: fatal error: lber.h: No such file or directory\n"
                "  error: command '/usr/bin/gcc' failed with exit code 1\n"
            )
        )
        assert isinstance(error, UnbuildableError)
        self.assertEqual("python-ldap", error.distribution)
        self.assertEqual(
            "python-ldap 3.4.7 could not be built: lber.h: No such file or directory.",
            error.sentence,
        )

    def test_any_other_failure_is_cut_to_a_sentence(self) -> None:
        error = explain_failure(completed("error: Request failed\n  cause: refused\n\nhint: x\n"))
        self.assertNotIsInstance(error, UnbuildableError)
        self.assertIn("Request failed: refused.", error.sentence)
        self.assertNotIn("hint", error.sentence)

    def test_time_up_is_told(self) -> None:
        self.assertIn("too long", shorten(completed("", status=-9)))

    def test_uv_gets_its_index_but_no_foreign_settings(self) -> None:
        told = scrub(
            {"UV_INDEX_URL": "x", "UV_LINK_MODE": "hardlink", "PYTHONPATH": "/x", "A": "1"}
        )
        self.assertEqual({"UV_INDEX_URL": "x", "A": "1"}, told)

    def test_tools_are_freed_of_their_constraints_alone(self) -> None:
        lines = ("six===1", "stestr===2", "coverage===4; python_version < '3'")
        self.assertEqual(("six===1",), free_tools(lines))
