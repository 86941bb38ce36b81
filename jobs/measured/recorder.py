"""Records which lines run in which context, inside the measured interpreter.

One interface: `start()`, `switch(context)`, `claim(module)`, `stop()`, `name`, `context`. Code
that runs while a file of the tree is imported belongs to the context `FILE:import`, whichever
test imported it first; code between two tests to `MODULE:fixtures` of the test that follows.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sqlite3
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import coverage
from coverage.numbits import register_sqlite_functions

OUTSIDE = ""
BETWEEN = ":between"


class CoverageRecorder:
    """coverage.py with its context switched per test; data files of subprocesses lie beside."""

    def __init__(self, cov: coverage.Coverage) -> None:
        self.cov = cov
        self.name = "coverage.py %s (%s, a context per test)" % (
            coverage.__version__,
            os.environ.get("COVERAGE_CORE", "default core"),
        )
        self.context = OUTSIDE
        self.claimed: dict[str, str] = {}

    def start(self) -> None:
        self.cov.start()

    def switch(self, context: str) -> None:
        if context != self.context:
            # coverage.py lists the folders of its sources as it switches: that is nobody's.
            self.context = OUTSIDE
            self.cov.switch_context(self._between if context == BETWEEN else context)
            self.context = context

    def claim(self, module: str) -> None:
        """What ran since the last test belongs to the fixtures of `module`, whose test follows."""
        self.claimed[self._between] = "%s:fixtures" % module

    @property
    def _between(self) -> str:
        """The name of this gap between two tests until it is known whose it is."""
        return "%s %d" % (BETWEEN, len(self.claimed))

    def stop(self) -> None:
        self.cov.stop()
        self.cov.save()
        rename_contexts(self.cov.get_data().data_filename(), self.claimed)


def rename_contexts(path: str, names: dict[str, str]) -> None:
    """Give the rows of contexts of a data file to others, which may have rows of their own."""
    db = sqlite3.connect(path)
    register_sqlite_functions(db)
    with db:
        for old, name in db.execute("SELECT id, context FROM context").fetchall():
            if name in names:
                db.execute("INSERT OR IGNORE INTO context (context) VALUES (?)", (names[name],))
                new = "(SELECT id FROM context WHERE context = ?)"
                db.execute(
                    "INSERT INTO line_bits SELECT file_id, %s, numbits FROM line_bits"
                    " WHERE context_id = ? ON CONFLICT (file_id, context_id) DO UPDATE"
                    " SET numbits = numbits_union(numbits, excluded.numbits)" % new,
                    (names[name], old),
                )
                db.execute(
                    "INSERT OR IGNORE INTO arc SELECT file_id, %s, fromno, tono FROM arc"
                    " WHERE context_id = ?" % new,
                    (names[name], old),
                )
                for table, column in (
                    ("line_bits", "context_id"),
                    ("arc", "context_id"),
                    ("context", "id"),
                ):
                    db.execute("DELETE FROM %s WHERE %s = ?" % (table, column), (old,))
    db.close()


class PlainRecorder(CoverageRecorder):
    """coverage.py as it is, without contexts: what a full run costs and says without covtrack."""

    def __init__(self, cov: coverage.Coverage) -> None:
        super().__init__(cov)
        core = os.environ.get("COVERAGE_CORE", "default core")
        self.name = "coverage.py %s (%s, no contexts)" % (coverage.__version__, core)

    def switch(self, context: str) -> None:
        pass

    def claim(self, module: str) -> None:
        pass


def configure(folder: str | None, source: list[str], branch: bool | None) -> coverage.Coverage:
    """A Coverage by the project's own settings, writing `.coverage.*` into `folder` (or nothing).

    `source` is used only where those settings name none; `branch` None keeps their choice.
    """
    file = os.path.join(folder, ".coverage") if folder else None
    cov = coverage.Coverage(data_file=file, data_suffix=bool(folder), messages=False)
    cov.set_option("run:relative_files", True)
    cov.set_option("run:dynamic_context", None)
    if branch is not None:
        cov.set_option("run:branch", branch)
    if source and not has_source(cov):
        cov.set_option("run:source", source)
    return cov


def record_all(cov: coverage.Coverage, root: str) -> None:
    """Have every file below `root` recorded: footprints need tests and helpers too."""
    cov.set_option("run:source", [root])
    for name in ("run:include", "run:omit", "run:source_pkgs", "run:source_dirs"):
        with contextlib.suppress(Exception):  # an option that this coverage.py does not know
            cov.set_option(name, [])


def measured_files(cov: coverage.Coverage, root: str) -> tuple[list[str], list[str]]:
    """Paths that coverage.py reports on in any case, and those it reports on only if they run.

    The latter match `include`, or lie below the source but in no package. coverage.py itself
    tells: it traces an empty stand-in that runs under each file's name.
    """
    cov.start()
    cov.stop()
    always = set(cov.get_data().measured_files())
    cov.start()
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                exec(compile("pass", path, "exec"), {})
    cov.stop()
    return sorted(always), sorted(cov.get_data().measured_files() - always)


def has_source(cov: coverage.Coverage) -> bool:
    """Whether the project's coverage settings say themselves what to measure."""
    for name in ("run:source", "run:source_pkgs", "run:source_dirs", "run:include"):
        with contextlib.suppress(Exception):  # an option that this coverage.py does not know
            if cov.get_option(name):
                return True
    return False


@contextlib.contextmanager
def switched(recorder: CoverageRecorder, context: str) -> Iterator[None]:
    """Run the block in another context, then go back."""
    before = recorder.context
    recorder.switch(context)
    try:
        yield
    finally:
        recorder.switch(before)


def attribute_imports(recorder: CoverageRecorder, root: str) -> None:
    """Give import-time code a context of its file, even where a test is the first to import it."""
    loader: Any = importlib.machinery.SourceFileLoader
    execute = loader.exec_module
    start = os.path.join(root, "")

    def exec_module(self: Any, module: Any) -> None:
        if not self.path.startswith(start):
            execute(self, module)
            return
        with switched(recorder, "%s:import" % self.path[len(start) :]):
            execute(self, module)

    loader.exec_module = exec_module


def attribute_fixtures(recorder: CoverageRecorder) -> None:
    """Give class and module fixtures contexts of their own, `pkg.mod.Class:setUpClass` style.

    unittest's suite calls these hooks before every test; they act only when the class or the
    module changes.
    """
    suite = unittest.suite.TestSuite

    def wrap(method: str, name_context: Callable[..., str | None]) -> None:
        original = getattr(suite, method)

        def hook(self: Any, *args: Any) -> Any:
            context = name_context(*args)
            if context is None:
                return original(self, *args)
            with switched(recorder, context):
                return original(self, *args)

        setattr(suite, method, hook)

    def previous(result: Any) -> Any:
        return getattr(result, "_previousTestClass", None)

    def qualify(cls: type, fixture: str) -> str | None:
        plain = unittest.TestCase.__dict__[fixture].__func__
        own = getattr(getattr(cls, fixture, None), "__func__", plain)
        return None if own is plain else "%s.%s:%s" % (cls.__module__, cls.__qualname__, fixture)

    def set_up_class(test: Any, result: Any) -> str | None:
        return (
            None if previous(result) is test.__class__ else qualify(test.__class__, "setUpClass")
        )

    def tear_down_class(test: Any, result: Any) -> str | None:
        last = previous(result)
        same = last is None or last is test.__class__
        return None if same else qualify(last, "tearDownClass")

    def set_up_module(test: Any, result: Any) -> str | None:
        last = getattr(previous(result), "__module__", None)
        module = test.__class__.__module__
        return None if last == module else "%s:setUpModule" % module

    def tear_down_module(result: Any) -> str | None:
        last = getattr(previous(result), "__module__", None)
        return None if last is None else "%s:tearDownModule" % last

    wrap("_handleClassSetUp", set_up_class)
    wrap("_tearDownPreviousClass", tear_down_class)
    wrap("_handleModuleFixture", set_up_module)
    wrap("_handleModuleTearDown", tear_down_module)
