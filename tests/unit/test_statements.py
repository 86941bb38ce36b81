"""jobs.statements: what decides how files are parsed, and the cache of parsed files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from testtools import TestCase

from jobs.statements import (
    Function,
    StatementCache,
    coverage_settings_text,
    read_parsed,
    settings_key,
)

RAW: dict[str, Any] = {
    "statements": [1, 2, 5],
    "excluded": [7],
    "first": {"3": 2, "4": 2},
    "functions": [["f", 5, 6, 6], ["g", 8, 8, 8]],
    "arcs": [[1, 2], [2, -1]],
    "exits": {"1": 2},
    "no_branch": [5],
    "jumps": [[4, 3, 5]],
}


class ParsedTest(TestCase):
    def test_read(self) -> None:
        parsed = read_parsed(json.loads(json.dumps(RAW)))
        self.assertEqual({1, 2, 5}, parsed.statements)
        self.assertEqual({3: 2, 4: 2}, parsed.first)
        self.assertEqual(Function(name="f", first=5, last=6, body=6), parsed.functions[0])
        self.assertEqual({(1, 2), (2, -1)}, parsed.arcs)
        self.assertEqual({(4, 3): 5}, parsed.jumps)
        self.assertEqual({2: 4}, parsed.spans)
        self.assertEqual({6}, parsed.function_lines)
        self.assertIsNone(parsed.error)

    def test_error(self) -> None:
        self.assertEqual("bad", read_parsed({"error": "bad"}).error)


class SettingsTextTest(TestCase):
    def same(self, one: dict[str, str], other: dict[str, str]) -> bool:
        return coverage_settings_text(one) == coverage_settings_text(other)

    def test_only_the_part_of_coverage_counts(self) -> None:
        base = "[metadata]\nname = {}\n[coverage:run]\nbranch = {}\n"
        for name in ("setup.cfg", "tox.ini"):
            self.assertTrue(self.same({name: base.format(1, 1)}, {name: base.format(2, 1)}))
            self.assertFalse(self.same({name: base.format(1, 1)}, {name: base.format(1, 2)}))
        toml = "[project]\nname = '{}'\n[tool.coverage.run]\nbranch = {}\n"
        one = {"pyproject.toml": toml.format("a", "true")}
        self.assertTrue(self.same(one, {"pyproject.toml": toml.format("b", "true")}))
        self.assertFalse(self.same(one, {"pyproject.toml": toml.format("a", "false")}))

    def test_coveragerc_hides_the_others(self) -> None:
        rc = {".coveragerc": "[run]\nbranch = 1\n"}
        self.assertTrue(self.same(rc, {**rc, "setup.cfg": "[coverage:run]\nbranch = 0\n"}))
        self.assertFalse(self.same(rc, {".coveragerc": "[run]\nbranch = 0\n"}))
        self.assertFalse(self.same(rc, {}))

    def test_broken_files_count_as_they_are(self) -> None:
        for name in ("setup.cfg", "pyproject.toml"):
            self.assertTrue(self.same({name: "[a\n"}, {name: "[a\n"}))
            self.assertFalse(self.same({name: "[a\n"}, {name: "[b\n"}))

    def test_other_files_do_not_count(self) -> None:
        self.assertTrue(self.same({"README": "a"}, {}))

    def test_key(self) -> None:
        keys = {
            settings_key("a"),
            settings_key("b"),
            settings_key("a", "x"),
            settings_key("a", "x", "y"),
            settings_key("a", "xy"),
        }
        self.assertEqual(5, len(keys))
        self.assertEqual(settings_key("a", "x"), settings_key("a", "x"))


class StatementCacheTest(TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "new", "statements.sqlite")
        self.cache = StatementCache(self.path)

    def test_round_trip(self) -> None:
        self.cache.store("k", {"b1": RAW, "b2": {"error": "bad"}})
        found = StatementCache(self.path).load("k", ["b1", "b2", "b3"])
        self.assertEqual({"b1": read_parsed(RAW), "b2": read_parsed({"error": "bad"})}, found)

    def test_by_key_and_blob(self) -> None:
        self.cache.store("k", {"b1": RAW})
        self.assertEqual({}, self.cache.load("other", ["b1"]))
        self.assertEqual({}, self.cache.load("k", ["b2"]))
        self.cache.store("k", {"b1": {"error": "newer"}})
        self.assertEqual("newer", self.cache.load("k", ["b1"])["b1"].error)

    def test_damaged_file_is_begun_anew(self) -> None:
        self.cache.store("k", {f"b{n}": RAW for n in range(200)})
        good = self.path.read_bytes()
        for bad in (b"garbage" * 100, good[: len(good) // 2], good[:100] + b"\xff" * len(good)):
            self.path.write_bytes(bad)
            self.assertEqual({}, self.cache.load("k", ["b1"]))
            self.cache.store("k", {"b1": RAW})
            self.assertEqual(["b1"], list(self.cache.load("k", ["b1"])))

    def test_damaged_file_while_storing(self) -> None:
        self.cache.store("k", {"b1": RAW})
        self.path.write_bytes(b"garbage" * 100)
        self.cache.store("k", {"b2": RAW})
        self.assertEqual(["b2"], list(self.cache.load("k", ["b1", "b2"])))

    def test_damaged_entry_is_parsed_anew(self) -> None:
        self.cache.store("k", {"b1": {"statements": [1]}, "b2": RAW})
        self.assertEqual(["b2"], list(self.cache.load("k", ["b1", "b2"])))
