"""Patch coverage of real runs, beside what the real diff-cover says of the exported XML."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from covtrack.export import export_snapshot
from jobs.project import ProjectSettings
from jobs.results import JobResult, PatchCoverage, Select, UncoveredRange
from tests.integration.test_tracking import TrackingCase
from venv_builder.processes import check_command

AREA = "sample.tests.test_shapes.AreaTest."
GREET = "sample.tests.test_texts.GreetTest.test_greet"
DIFF_COVER = Path(sys.executable).with_name("diff-cover")
# (statements, covered, {path: first lines of what is uncovered})
Said = tuple[int, int, Mapping[str, tuple[int, ...]]]


class PatchCase(TrackingCase):
    def measure(self, select: Select = Select.ALL, /, **settings: Any) -> JobResult:
        """A run of the clone's HEAD, the newest of the branch."""
        result = self.run_job("HEAD", select, **settings)
        self.assertEqual((), result.faults)
        return result

    def measure_change(self, **settings: Any) -> PatchCoverage:
        """Commit the clone's tree and measure what that changed of its parent."""
        parent = self.clone.repo.head.commit.hexsha
        self.clone.commit_all("Change it")
        patch = self.measure(**settings).patch
        assert patch is not None
        self.assertEqual(parent, patch.parent)
        return patch

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(dedent(text))

    def append(self, name: str, text: str) -> None:
        (self.root / name).write_text(self.clone.read(name) + dedent(text))

    def diff_cover(self, patch: PatchCoverage) -> Said:
        """What diff-cover says of the same commit, on covtrack's export."""
        project = ProjectSettings(name=self.name, git=str(self.root), branch="master")
        xml, said = self.root.parent / "coverage.xml", self.root.parent / "said.json"
        export_snapshot(self.make_tracker(), project, "HEAD", "xml", xml)
        words: list[str | Path] = [
            DIFF_COVER,
            xml,
            "--compare-branch",
            patch.parent,
            "--format",
            f"json:{said}",
        ]
        home = {"PATH": os.environ["PATH"], "HOME": str(self.root.parent)}
        check_command(words, cwd=self.root, env=home)
        told = json.loads(said.read_text())
        lines, violations = told["total_num_lines"], told["total_num_violations"]
        files = {
            path: tuple(file["violation_lines"])
            for path, file in told["src_stats"].items()
            if file["violation_lines"]
        }
        return lines, lines - violations, files

    def lines_of_patch(self, patch: PatchCoverage) -> Said:
        """The same of covtrack's own."""
        files: dict[str, tuple[int, ...]] = {}
        xml = self.missing_of_head()
        for part in patch.uncovered:
            inside = range(part.first, part.last + 1)
            first = tuple(line for line in xml[part.path] if line in inside)
            files[part.path] = files.get(part.path, ()) + first
        return patch.statements, patch.covered, files

    def missing_of_head(self) -> dict[str, tuple[int, ...]]:
        tracker = self.make_tracker()
        run = tracker.database.find_run(self.name, self.clone.repo.head.commit.hexsha)
        assert run is not None
        return {file.path: file.missing for file in tracker.database.files_of(run.run_id)}

    def check_same(self, patch: PatchCoverage, statements: int, covered: int) -> None:
        """Both say that of these statements so many are covered, and name the same lines."""
        self.assertEqual((statements, covered), (patch.statements, patch.covered))
        self.assertEqual(self.diff_cover(patch), self.lines_of_patch(patch))


def ranges(patch: PatchCoverage) -> list[tuple[str, int, int, str | None]]:
    return [(part.path, part.first, part.last, part.nearest_test) for part in patch.uncovered]


class DiffCoverTest(PatchCase):
    """One history of every shape; each commit is measured and compared with its parent."""

    def test_shapes_of_change(self) -> None:
        self.measure()
        self.added_function()
        self.modified_lines()
        self.moved_block()
        self.deleted_lines()
        self.renamed_and_edited()
        self.excluded_lines()
        self.new_file()
        self.comments_alone()
        self.changed_tests()
        self.long_statements()

    def added_function(self) -> None:
        self.append(
            "sample/shapes.py",
            """\


            def perimeter(width, height):
                total = width + height
                if total < 0:
                    total = 0
                    total += 1
                return 2 * total


            def diagonal(width):
                return width
            """,
        )
        self.clone.replace(
            "sample/tests/test_shapes.py",
            "(2, 3))\n",
            "(2, 3))\n\n    def test_perimeter(self):\n"
            "        self.assertEqual(10, shapes.perimeter(2, 3))\n",
        )
        patch = self.measure_change()
        self.check_same(patch, 8, 5)
        path = "sample/shapes.py"
        near = AREA + "test_perimeter"
        # diagonal() has no line that a test ran: the closest of the file is perimeter's last.
        self.assertEqual([(path, 24, 25, near), (path, 30, 30, near)], ranges(patch))

    def modified_lines(self) -> None:
        self.clone.replace("sample/shapes.py", "return width * height", "return height * width")
        self.clone.replace("sample/shapes.py", "return 1", "return 2")
        patch = self.measure_change()
        self.check_same(patch, 2, 1)
        self.assertEqual([("sample/shapes.py", 18, 18)], [r[:3] for r in ranges(patch)])

    def moved_block(self) -> None:
        text = self.clone.read("sample/shapes.py")
        block = "def untested():\n    return 2\n"
        self.assertIn(block, text)
        self.write("sample/shapes.py", text.replace(block, "") + "\n\n" + block)
        patch = self.measure_change()
        self.check_same(patch, 2, 1)

    def deleted_lines(self) -> None:
        self.clone.replace("sample/shapes.py", "        total += 1\n", "")
        self.check_same(self.measure_change(), 0, 0)

    def renamed_and_edited(self) -> None:
        self.clone.repo.git.mv("sample/texts.py", "sample/words.py")
        self.clone.replace("sample/words.py", '"hello "', '"HELLO "')
        self.append("sample/words.py", "\n\ndef lower():\n    return 'x'\n")
        self.clone.replace("sample/tests/test_texts.py", "import texts", "import words as texts")
        patch = self.measure_change()
        self.check_same(patch, 3, 2)
        self.assertEqual([("sample/words.py", 17, 17, GREET)], ranges(patch))

    def excluded_lines(self) -> None:
        self.append(
            "sample/shapes.py",
            """\


            def debug():  # pragma: no cover
                print("x")
                print("y")


            def plain():
                return 3
            """,
        )
        self.check_same(self.measure_change(), 2, 1)

    def new_file(self) -> None:
        self.write(
            "sample/fresh.py",
            '''\
            """Text of a module
            in two lines."""

            import os


            class Thing:
                """A class."""

                size = 1

                def path(self):
                    """Text of a function."""

                    def inner():
                        return os.sep

                    return inner()
            ''',
        )
        patch = self.measure_change()
        self.check_same(patch, 7, 0)
        path = "sample/fresh.py"
        # No test runs any line of the file: which test is near is unknown.
        self.assertEqual(
            [
                (path, 4, 12, None),
                (path, 15, 15, None),
                (path, 16, 16, None),
                (path, 18, 18, None),
            ],
            ranges(patch),
        )

    def comments_alone(self) -> None:
        self.clone.replace("sample/shapes.py", "def area", "# How large it is.\ndef area")
        self.clone.replace("sample/fresh.py", "A class.", "One class.")
        self.check_same(self.measure_change(), 0, 0)

    def changed_tests(self) -> None:
        self.append("sample/tests/test_texts.py", "\n# The end.\n")
        self.check_same(self.measure_change(), 0, 0)

    def long_statements(self) -> None:
        """Where the two differ: diff-cover knows the first lines of statements alone."""
        inside = "        name,\n"
        self.clone.replace("sample/shapes.py", inside, "        str(name),\n        # Sides.\n")
        self.check_differs(self.measure_change())
        self.clone.replace("sample/shapes.py", "        # Sides.\n", "")
        self.check_differs(self.measure_change())
        self.clone.replace("sample/shapes.py", 'return "%s has %d', 'return "%s have %d')
        self.check_same(self.measure_change(), 1, 1)

    def check_differs(self, patch: PatchCoverage) -> None:
        """One statement for covtrack, none for diff-cover."""
        self.assertEqual((1, 1), (patch.statements, patch.covered))
        self.assertEqual((0, 0, {}), self.diff_cover(patch))


class ParentTest(PatchCase):
    def test_against_the_parent_although_the_baseline_is_older(self) -> None:
        base = self.measure()
        self.append("sample/shapes.py", "\n\ndef one():\n    return 1\n")
        parent = self.clone.commit_all("Not measured")
        self.append("sample/texts.py", "\n\ndef two():\n    return 2\n")
        self.clone.commit_all("Measured")
        result = self.measure(Select.CHANGED)
        self.assertEqual(base.commit, result.base)
        self.assertEqual(
            PatchCoverage(
                parent=parent,
                statements=2,
                covered=1,
                uncovered=(
                    UncoveredRange(path="sample/texts.py", first=17, last=17, nearest_test=GREET),
                ),
            ),
            result.patch,
        )

    def test_a_merge_is_what_it_brings_to_its_first_parent(self) -> None:
        self.measure()
        self.clone.repo.git.checkout("-q", "-b", "topic")
        self.append("sample/texts.py", "\n\ndef two():\n    return 2\n")
        self.clone.commit_all("On the topic")
        self.clone.repo.git.checkout("-q", "master")
        self.append("sample/shapes.py", "\n\ndef one():\n    return 1\n")
        first = self.clone.commit_all("On the branch")
        git = self.clone.repo.git
        git.execute(
            ["git", "-c", "user.name=T", "-c", "user.email=t@x", "merge", "-q", "--no-ff", "topic"]
        )
        patch = self.measure(Select.CHANGED).patch
        assert patch is not None
        self.assertEqual((first, 2, 1), (patch.parent, patch.statements, patch.covered))
        self.assertEqual({"sample/texts.py"}, {part.path for part in patch.uncovered})

    def test_branches_measured_give_the_same_patch(self) -> None:
        self.measure(branch_coverage=True)
        self.append("sample/texts.py", "\n\ndef two(x):\n    if x:\n        return 2\n")
        patch = self.measure_change(branch_coverage=True)
        self.assertEqual((3, 1), (patch.statements, patch.covered))
        self.assertEqual([("sample/texts.py", 17, 18, GREET)], ranges(patch))

    def test_a_first_commit_is_unknown_and_says_why(self) -> None:
        result = self.measure()
        self.assertIsNone(result.patch)
        self.assertIn("has no parent", " ".join(result.notes))
        self.assertIn("has no parent", " ".join(self.notes))

    def test_what_git_calls_binary_is_unknown_and_says_why(self) -> None:
        attributes = self.root / ".gitattributes"
        attributes.write_text("*.py -diff\n")
        self.clone.commit_all("Call sources binary")
        info = self.make_tracker().mirror(self.name).path / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text("*.py -diff\n")
        self.clone.replace("sample/shapes.py", "return 1", "return 2")
        self.clone.commit_all("Change it")
        result = self.measure()
        self.assertIsNone(result.patch)
        self.assertIn("git shows no lines of what changed in sample/shapes.py", result.notes[-1])

    def test_stored_with_the_run(self) -> None:
        self.append("sample/texts.py", "\n\ndef two():\n    return 2\n")
        patch = self.measure_change()
        stored = self.make_tracker().database.find_run(
            self.name, self.clone.repo.head.commit.hexsha
        )
        assert stored is not None
        self.assertEqual(patch, stored.patch)

    def test_vendored_code_is_no_part_of_it(self) -> None:
        self.append("sample/texts.py", "\n\ndef two():\n    return 2\n")
        patch = self.measure_change(vendored=["sample/texts.py"])
        self.assertEqual((0, 0), (patch.statements, patch.covered))
