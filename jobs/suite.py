"""Where a project's tests are: read from its stestr settings and its list of files.

Pure but for `read_layout`, which lets stestr read its own configuration file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import chdir
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from jobs.project import ProjectSettings
from venv_builder.errors import UsageError

PATTERN = "test*.py"
SHELL_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
# unittest asks for an identifier of the file alone; folders only have to be importable.
LOADABLE_PATH = re.compile(r"^([^/.]+/)*[^\d\W]\w*$")
# unittest's fixtures of classes and modules: the contexts around tests are called after them.
FIXTURES = ("setUpClass", "tearDownClass", "setUpModule", "tearDownModule")
# The id under which unittest tells that a fixture failed, or that it skips its tests.
FIXTURE_ID = re.compile(r"^(?:setUp|tearDown)(?:Class|Module) \((.+)\)$")
IDENTIFIER_PATH = re.compile(r"^[^\d\W]\w*(/[^\d\W]\w*)*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Folders relative to the project's root, "" for the root itself."""

    test_path: str
    top_dir: str = ""
    group_regex: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestModule:
    """A module that unittest's discovery would load tests from, and its file.

    A package with a `load_tests` of its own stands for all that lies in it.
    """

    __test__ = False

    name: str
    path: str
    package: bool = False

    def owns(self, path: str) -> bool:
        """Whether tests of this module are defined in `path`."""
        folder = str(PurePosixPath(self.path).parent)
        return path == self.path or (self.package and path.startswith(f"{folder}/"))


def expand_variables(text: str, variables: Mapping[str, str]) -> str:
    """Expand $X, ${X} and ${X:-default} as the shell that stestr would start does."""

    def replace(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[3]) or match[2] or ""

    return SHELL_VARIABLE.sub(replace, text)


def read_layout(root: Path, settings: ProjectSettings, variables: Mapping[str, str]) -> Layout:
    """The test layout of the tree at `root`; covtrack.toml's words go before the tree's.

    Raises UsageError if the stestr configuration cannot be read or leaves the tree.
    """
    test_path, top_dir, group_regex = _read_stestr(root)
    _check_group_regex(group_regex, root)
    chosen = settings.test_path or test_path or _guess_test_path(root)
    if chosen is None:
        raise UsageError(
            f"{settings.name} has no .stestr.conf and no folder named tests or test.",
            advice="Set test_path for the project in covtrack.toml.",
        )
    return Layout(
        test_path=_normalise(expand_variables(chosen, variables), settings.name),
        top_dir=_normalise(
            expand_variables(settings.top_dir or top_dir or "./", variables), settings.name
        ),
        group_regex=group_regex or None,
    )


def _read_stestr(root: Path) -> tuple[str | None, str | None, str | None]:
    from stestr.config_file import TestrConf

    try:
        with chdir(root):
            conf = TestrConf.load_from_file(TestrConf.DEFAULT_CONFIG_FILENAME)
    except Exception as error:  # configparser, tomlkit and stestr each have errors of their own
        reason = " ".join(str(error).split())
        raise UsageError(
            f"The stestr settings of {root.name} cannot be read: {reason}.",
            advice="Mend .stestr.conf, or set test_path for the project in covtrack.toml.",
        ) from error
    return conf.test_path, conf.top_dir, conf.group_regex


def _check_group_regex(pattern: str | None, root: Path) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise UsageError(
            f"The group_regex of {root.name} is no regular expression: {error}.",
            advice="Mend it in .stestr.conf.",
        ) from error


def _guess_test_path(root: Path) -> str | None:
    """A folder named tests or test, in the root or in one of its packages."""
    candidates = [root / "tests", root / "test", *sorted(root.glob("*/tests"))]
    for folder in candidates:
        if (folder / "__init__.py").is_file():
            return os.path.relpath(folder, root)
    return None


def _normalise(path: str, project: str) -> str:
    normal = os.path.normpath(path)
    if normal.startswith(("/", "..")):
        raise UsageError(
            f"The test path {path} of {project} lies outside its tree.",
            advice="Set test_path for the project in covtrack.toml.",
        )
    return "" if normal == "." else normal


def find_test_modules(
    paths: Collection[str], layout: Layout, has_load_tests: Callable[[str], bool]
) -> tuple[TestModule, ...]:
    """The modules that `discover -t TOP_DIR TEST_PATH` would load, by file name alone.

    `has_load_tests` tells for the path of an `__init__.py` whether it defines load_tests.
    """
    known = frozenset(paths)
    below = f"{layout.test_path}/" if layout.test_path else ""
    found: dict[str, TestModule] = {}
    for path in sorted(known):
        if not (path.startswith(below) and fnmatchcase(PurePosixPath(path).name, PATTERN)):
            continue
        packages = _packages(path, layout)
        if any(f"{package}/__init__.py" not in known for package in packages):
            continue
        custom = next((p for p in packages if has_load_tests(f"{p}/__init__.py")), None)
        module = _as_module(path, custom, layout)
        if module is not None:
            found[module.name] = module
    return tuple(found[name] for name in sorted(found))


def _packages(path: str, layout: Layout) -> list[str]:
    """Folders from the test path (itself included, unless it is the root) down to the file."""
    start = PurePosixPath(layout.test_path)
    folders = [
        str(folder)
        for folder in PurePosixPath(path).parents
        if folder.is_relative_to(start) and str(folder) not in (".", layout.top_dir)
    ]
    return folders[::-1]


def _as_module(path: str, custom: str | None, layout: Layout) -> TestModule | None:
    stem = custom or path.removesuffix(".py")
    relative = stem.removeprefix(f"{layout.top_dir}/") if layout.top_dir else stem
    if not LOADABLE_PATH.match(relative):
        return None
    file = f"{custom}/__init__.py" if custom else path
    return TestModule(name=relative.replace("/", "."), path=file, package=custom is not None)


def module_name(path: str, top_dirs: Iterable[str] = ("",)) -> str | None:
    """The dotted name under which `path` is imported from the nearest of `top_dirs`."""
    for top in sorted(top_dirs, key=len, reverse=True):
        if top and not path.startswith(f"{top}/"):
            continue
        stem = path.removeprefix(f"{top}/" if top else "").removesuffix(".py")
        stem = stem.removesuffix("/__init__")
        return stem.replace("/", ".") if IDENTIFIER_PATH.match(stem) else None
    return None


def fixture_owner(test: str) -> str | None:
    """The class or module of an outcome `setUpClass (pkg.mod.Class)`; None for a test."""
    found = FIXTURE_ID.match(test)
    return found.group(1) if found else None


def owner_of(test: str, modules: Collection[str]) -> str | None:
    """The longest of `modules` that the test id or context lies in."""
    name = fixture_owner(test) or test.partition("(")[0].partition(":")[0]
    while name:
        if name in modules:
            return name
        name = name.rpartition(".")[0]
    return None
