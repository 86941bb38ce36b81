"""What is made of tox's answers; tox itself runs in the integration tests."""

from __future__ import annotations

import testtools

from venv_builder.declarations import choose_constraints
from venv_builder.tox_settings import choose_env, find_source, keep_own, parse_answer

JSON = """ROOT: a log line {with braces}
{
  "env": {"py39": {"deps": ["-r x.txt"], "set_env": {"A": "1"}}}
}
"""
INI = """[testenv:py39]
deps =
  -c https://a/upper
  six
extras = test
set_env =
  A=1
  B=two = three
install_command = # Exception: NoInterpreter()
"""


class AnswerTest(testtools.TestCase):
    def test_json_after_log_lines(self) -> None:
        self.assertEqual(["-r x.txt"], parse_answer(JSON)["py39"]["deps"])

    def test_ini_form_of_older_tox(self) -> None:
        answer = parse_answer("ROOT: noise\n" + INI)["py39"]
        self.assertEqual(["-c https://a/upper", "six"], answer["deps"])
        self.assertEqual(["A=1", "B=two = three"], answer["set_env"])
        self.assertNotIn("install_command", answer)

    def test_no_answer(self) -> None:
        self.assertRaises(ValueError, parse_answer, "ROOT: failed")


class SettingsTest(testtools.TestCase):
    def test_source_of_coverage_commands(self) -> None:
        for text, source in (
            ("coverage run --source oslo_utils --parallel-mode", "oslo_utils"),
            ("coverage run --source=a,b/c -m unittest", "a,b/c"),
            ("python -m coverage run --branch --source pkg", "pkg"),
            ("python setup.py testr --coverage --coverage-package-name=old", "old"),
            ("coverage report --include x", None),
            ("stestr run", None),
        ):
            self.assertEqual(source, find_source({"PYTHON": text}, ()), text)
            self.assertEqual(source, find_source({}, ("echo", text)), text)

    def test_tox_own_variables_are_dropped(self) -> None:
        told = {
            "PIP_USER": "0",
            "TOX_ENV_DIR": "/x",
            "PYTHONHASHSEED": "3",
            "VIRTUAL_ENV": "/x",
            "PYTHONIOENCODING": "utf-8",
            "OS_TEST_PATH": "./x",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.assertEqual({"OS_TEST_PATH": "./x", "PYTHONDONTWRITEBYTECODE": "1"}, keep_own(told))

    def test_py3_section_is_chosen_only_without_an_exact_one(self) -> None:
        self.assertEqual("py3", choose_env("[testenv:py3]\n", "py313"))
        self.assertEqual("py313", choose_env("[testenv:py3]\n[testenv:py313]\n", "py313"))
        self.assertEqual("py313", choose_env("[testenv]\n", "py313"))

    def test_given_constraints_replace_addresses_and_keep_files(self) -> None:
        named = ("https://a/upper", "/tree/c.txt")
        self.assertEqual(named, choose_constraints(named, None))
        self.assertEqual((), choose_constraints(named, "none"))
        self.assertEqual(("/tree/c.txt", "/u.txt"), choose_constraints(named, "/u.txt"))
        self.assertEqual(("/tree/c.txt", "https://b"), choose_constraints(named, "https://b"))
