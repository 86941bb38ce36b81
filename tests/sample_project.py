"""A small real project in a git clone, for tests that run whole jobs on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import git

AUTHOR = git.Actor("Tester", "tester@localhost")

FILES: Mapping[str, str] = {
    ".stestr.conf": "[DEFAULT]\ntest_path=./sample/tests\ntop_dir=./\n",
    ".coveragerc": "[run]\nsource = sample\nomit = sample/tests/*\n",
    "sample/__init__.py": "",
    "sample/tests/__init__.py": "",
    "sample/shapes.py": """\
        SIDES = {"triangle": 3}


        def area(width, height):
            if width < 0:
                raise ValueError(width)
            return width * height


        def describe(name):
            return "%s has %d sides" % (
                name,
                SIDES[name],
            )


        def untested():
            return 1
        """,
    "sample/texts.py": """\
        import functools


        def shout(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args).upper()
            return wrapper


        @shout
        def greet(name):
            return "hello " + name
        """,
    "sample/tests/test_shapes.py": """\
        import unittest

        from sample import shapes


        class AreaTest(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.text = shapes.describe("triangle")

            def test_area(self):
                self.assertEqual(6, shapes.area(2, 3))

            def test_negative(self):
                self.assertRaises(ValueError, shapes.area, -1, 3)
        """,
    "sample/tests/test_texts.py": """\
        import unittest

        from sample import texts


        class GreetTest(unittest.TestCase):
            def test_greet(self):
                self.assertEqual("HELLO BOB", texts.greet("bob"))
        """,
}

# A test that no short budget reaches, and that alone runs `untested`.
SLOW = """\
import time
import unittest

from sample import shapes


class SlowTest(unittest.TestCase):
    def test_slow(self):
        time.sleep(4)
        shapes.area(2, 3)
        shapes.untested()
"""

# Another project: a change of `step` reaches all its tests, those of `far` the long way.
STEPS_FILES: Mapping[str, str] = {
    ".stestr.conf": "[DEFAULT]\ntest_path=./lib/tests\ntop_dir=./\n",
    ".coveragerc": "[run]\nsource = lib\nomit = lib/tests/*\n",
    "setup.cfg": "[metadata]\nname = lib\nversion = 1\n",
    "lib/__init__.py": "",
    "lib/steps.py": """\
        def step(value):
            doubled = value * 2
            if value > 100:
                return far(value)
            return near(doubled)


        def near(value):
            return value + 1


        def far(value):
            if value > 1000:
                return None
            return value - 1
        """,
    "lib/tests/__init__.py": "",
}


class SampleClone:
    """A git clone at `root` on branch master, holding FILES unless others are given."""

    def __init__(self, root: Path, files: Mapping[str, str] = FILES) -> None:
        self.root = root
        self.repo = git.Repo.init(root, mkdir=True, initial_branch="master")
        who = {"NAME": AUTHOR.name, "EMAIL": AUTHOR.email}
        roles = ("GIT_AUTHOR_", "GIT_COMMITTER_")
        self.repo.git.update_environment(**{r + k: v or "" for r in roles for k, v in who.items()})
        self.commit("Begin", files)

    def commit(self, message: str, files: Mapping[str, str | None]) -> str:
        """Write the files (None deletes one) and commit all; returns the sha."""
        for name, text in files.items():
            path = self.root / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(dedent(text))
        return self.commit_all(message)

    def commit_all(self, message: str) -> str:
        """Commit the tree as it stands; returns the sha."""
        self.repo.git.add("--all")
        return self.repo.index.commit(message, author=AUTHOR, committer=AUTHOR).hexsha

    def read(self, name: str) -> str:
        """The text of a file of the clone."""
        return (self.root / name).read_text()

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace text that must be there."""
        text = self.read(name)
        assert old in text, (name, old)
        (self.root / name).write_text(text.replace(old, new))
