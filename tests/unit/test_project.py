"""jobs.project: settings as frozen values, their units, and what they refuse."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from testtools import TestCase

from jobs.project import ProjectSettings, parse_duration, parse_size, parse_target


class UnitsTest(TestCase):
    @given(number=st.integers(0, 10**6), unit=st.sampled_from(["", "k", "M", "g", "T"]))
    def test_sizes(self, number: int, unit: str) -> None:
        power = ["", "k", "m", "g", "t"].index(unit.lower())
        for text in (f"{number}{unit}", f" {number} {unit}iB ", f"{number}{unit}b"):
            self.assertEqual(number * 1024**power, parse_size(text), text)
        self.assertEqual(number, parse_size(number))

    @given(number=st.integers(0, 10**6))
    def test_durations(self, number: int) -> None:
        for unit, factor in (("", 1), ("s", 1), ("m", 60), ("min", 60), ("h", 3600), ("H", 3600)):
            self.assertEqual(number * factor, parse_duration(f"{number} {unit}"), unit)
        self.assertEqual(number, parse_duration(number))

    @given(hundredths=st.integers(0, 10000))
    def test_targets_are_exact(self, hundredths: int) -> None:
        text = f"{hundredths // 100}.{hundredths % 100:02}"
        expected = Fraction(hundredths, 100)
        for value in (text, f"{text}%", f" {text} % ", float(text)):
            self.assertEqual(expected, parse_target(value), repr(value))

    def test_what_is_no_unit_is_left_to_be_refused(self) -> None:
        for parse in (parse_size, parse_duration, parse_target):
            for value in ("much", "1 parsec", "", None, [1], "1/0", "-", "nan"):
                self.assertEqual(value, parse(value))


class ProjectSettingsTest(TestCase):
    def make(self, **values: Any) -> ProjectSettings:
        return ProjectSettings(**{"name": "p", "git": "/p", **values})

    def test_frozen(self) -> None:
        self.assertRaises(ValidationError, setattr, self.make(), "git", "/q")

    def test_share(self) -> None:
        self.assertEqual(Fraction(4, 5), self.make().share)
        self.assertEqual(Fraction(333, 1000), self.make(target="33.3").share)

    def test_survives_the_way_to_another_machine(self) -> None:
        project = self.make(target="82.5", memory="1 GiB", serial=("a.b",), set_env={"A": "1"})
        again = ProjectSettings.model_validate(project.model_dump())
        self.assertEqual(project, again)

    def test_refused(self) -> None:
        for values in (
            {"name": "a/../b c"},
            {"name": ".hidden"},
            {"name": "x" * 201},
            {"target": 100.01},
            {"target": "1/0"},
            {"memory": "63 MiB"},
            {"timeout": 0},
            {"workers": 257},
            {"serial": ["["]},
            {"unknown": 1},
            {"select": "none"},
        ):
            self.assertRaises(ValidationError, lambda values=values: self.make(**values))
