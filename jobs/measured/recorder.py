"""Records which lines run in which context, inside the measured interpreter.

One interface: `start()`, `switch(context)`, `stop()`, `name`. Import-time code of any module
belongs to the context "" (no test), whichever test imported it first.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import coverage

IMPORT = ""


class CoverageRecorder:
    """coverage.py with its context switched per test; data files of subprocesses lie beside."""

    def __init__(self, cov: coverage.Coverage) -> None:
        self.cov = cov
        self.name = "coverage.py %s (%s, a context per test)" % (
            coverage.__version__,
            os.environ.get("COVERAGE_CORE", "default core"),
        )
        self.context = IMPORT

    def start(self) -> None:
        self.cov.start()

    def switch(self, context: str) -> None:
        if context != self.context:
            self.context = context
            self.cov.switch_context(context)

    def stop(self) -> None:
        self.cov.stop()
        self.cov.save()


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


def attribute_imports(recorder: CoverageRecorder) -> None:
    """Give module-level code the context "" even where a test is the first to import it."""
    loader = importlib.machinery.SourceFileLoader
    execute = loader.exec_module

    def exec_module(self: Any, module: Any) -> None:
        if recorder.context == IMPORT:
            return execute(self, module)
        with switched(recorder, IMPORT):
            return execute(self, module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


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
