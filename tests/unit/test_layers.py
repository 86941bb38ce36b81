"""The house's rules about imports and names, read from the sources themselves."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

from testtools import TestCase

ROOT = Path(__file__).parents[2]
# What each package may import of the house.
ALLOWED = {
    "venv_builder": {"venv_builder"},
    "jobs": {"venv_builder", "jobs"},
    "covtrack": {"venv_builder", "jobs", "covtrack"},
}
BANNED_STEMS = {"utils", "util", "misc", "helpers", "helper", "manager", "common"}
PROCESS_MODULES = {"subprocess", "multiprocessing", "asyncio.subprocess", "pty", "popen2"}
PROCESS_CALLS = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp"}
MEASURED_IMPORTS = {"coverage", "stestr"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def all_sources() -> list[Path]:
    return [path for package in ALLOWED for path in sources(package)]


def is_measured(path: Path) -> bool:
    return path.is_relative_to(ROOT / "jobs" / "measured")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


def calls_of(path: Path) -> set[str]:
    """Names X of all `os.X(...)` calls of a file."""
    return {
        node.func.attr
        for node in nodes_of(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "os"
    }


def distributions() -> set[str]:
    """Names of the distributions that setup.cfg requires, and the modules named like them."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    words = config["options"]["install_requires"].split()
    names = {word.partition(">")[0].partition("[")[0].lower() for word in words}
    return names | {"git", "subunit", "tomlkit", "sqlalchemy"}


class LayerTest(TestCase):
    def test_every_package_has_sources(self) -> None:
        for package in ALLOWED:
            self.assertGreater(len(sources(package)), 5, package)

    def test_imports_go_one_way(self) -> None:
        for package, allowed in ALLOWED.items():
            for path in sources(package):
                house = tops_of(path) & {*ALLOWED, "tests"}
                self.assertEqual(set(), house - allowed, name_of(path))

    def test_one_module_starts_processes(self) -> None:
        starters = {
            name_of(path)
            for path in all_sources()
            if not is_measured(path)
            and (
                PROCESS_MODULES & set(imports_of(path))
                or any(call in PROCESS_CALLS or call[:4] == "exec" for call in calls_of(path))
                or any(call[:5] == "spawn" for call in calls_of(path))
            )
        }
        self.assertEqual({"venv_builder/processes.py"}, starters)

    def test_few_modules_use_gitpython(self) -> None:
        users = {name_of(path) for path in all_sources() if "git" in tops_of(path)}
        # The demo writes commits of its own; everything else reads through the mirror.
        readers = {f"jobs/{name}.py" for name in ("git_folder", "repository", "replica", "clone")}
        self.assertEqual(readers | {"covtrack/demo_history.py"}, users)

    def test_the_snapshot_alone_knows_the_tables_of_coverage(self) -> None:
        users = {
            name_of(path)
            for path in sources("jobs")
            if not is_measured(path) and "coverage" in tops_of(path)
        }
        self.assertEqual({"jobs/rows.py", "jobs/snapshot.py", "jobs/snapshot_writing.py"}, users)

    def test_measured_code_imports_nothing_that_a_project_could_see(self) -> None:
        scripts = [path for path in sources("jobs") if is_measured(path)]
        self.assertGreater(len(scripts), 3)
        for path in scripts:
            foreign = tops_of(path) - sys.stdlib_module_names - MEASURED_IMPORTS
            self.assertEqual(set(), foreign, name_of(path))

    def test_names_say_something_and_shadow_nothing(self) -> None:
        taken = sys.stdlib_module_names | BANNED_STEMS | distributions()
        for path in all_sources():
            if path.stem not in ("__init__", "__main__"):
                self.assertNotIn(path.stem, taken, name_of(path))

    def test_modules_stay_small_and_say_why_they_exist(self) -> None:
        for path in all_sources():
            text = path.read_text()
            self.assertLess(len(text.splitlines()), 360, name_of(path))
            if text.strip():
                self.assertTrue(ast.get_docstring(ast.parse(text)), name_of(path))
