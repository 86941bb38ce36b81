"""The documents say commands that exist, and CI finds the one that it runs in them."""

from __future__ import annotations

import re
from pathlib import Path

from testtools import TestCase

from covtrack.entry import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst"), *ROOT.glob("benchmarks/*.rst")]
SHOWN = re.compile(r"^ +\$ (?:\S*/)?covtrack ([a-z]\S*)", re.MULTILINE)


class DocumentTest(TestCase):
    def test_the_readme_installs_runs_and_tests(self) -> None:
        text = (ROOT / "README.rst").read_text()
        commands = [line.strip() for line in text.splitlines() if line.startswith("    $ python3")]
        self.assertEqual(2, len(commands))
        self.assertTrue(commands[0].endswith("covtrack demo"))
        self.assertTrue(commands[1].endswith("stestr run"))

    def test_every_document_has_text(self) -> None:
        self.assertGreater(len(DOCUMENTS), 10)
        for path in DOCUMENTS:
            self.assertGreater(len(path.read_text().splitlines()), 20, path.name)

    def test_every_command_shown_exists(self) -> None:
        shown = {word for path in DOCUMENTS for word in SHOWN.findall(path.read_text())}
        self.assertGreater(len(shown), 15)
        self.assertEqual(set(), shown - set(load().cli.commands))
