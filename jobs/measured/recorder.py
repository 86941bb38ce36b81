"""Records which lines run in which context, inside the measured interpreter.

One interface: `start()`, `switch(context)`, `stop()`, `name`. Import-time code of any module
belongs to the context "" (no test), whichever test imported it first.
"""

import contextlib
import importlib.machinery
import os
import unittest

import coverage

IMPORT = ""


class CoverageRecorder:
    """coverage.py with its context switched per test; honours the project's own settings.

    `folder` receives data files named `.coverage.*`, subprocesses' files included.
    `source` is used only where the project's settings name none; `branch` None keeps the
    project's own choice.
    """

    def __init__(self, folder, source, branch):
        self.cov = coverage.Coverage(
            data_file=os.path.join(folder, ".coverage"), data_suffix=True, messages=False
        )
        set_option = self.cov.set_option
        set_option("run:relative_files", True)
        set_option("run:dynamic_context", None)
        if branch is not None:
            set_option("run:branch", branch)
        if source and not has_source(self.cov):
            set_option("run:source", source)
        self.name = "coverage.py %s (%s, a context per test)" % (
            coverage.__version__,
            os.environ.get("COVERAGE_CORE", "default core"),
        )
        self.context = IMPORT

    def start(self):
        self.cov.start()

    def switch(self, context):
        if context != self.context:
            self.context = context
            self.cov.switch_context(context)

    def stop(self):
        self.cov.stop()
        self.cov.save()


def has_source(cov):
    """Whether the project's coverage settings say themselves what to measure."""
    names = ("run:source", "run:source_pkgs", "run:source_dirs", "run:include")
    for name in names:
        with contextlib.suppress(Exception):  # an option that this coverage.py does not know
            if cov.get_option(name):
                return True
    return False


@contextlib.contextmanager
def switched(recorder, context):
    """Run the block in another context, then go back."""
    before = recorder.context
    recorder.switch(context)
    try:
        yield
    finally:
        recorder.switch(before)


def attribute_imports(recorder):
    """Give module-level code the context "" even where a test is the first to import it."""
    loader = importlib.machinery.SourceFileLoader
    execute = loader.exec_module

    def exec_module(self, module):
        if recorder.context == IMPORT:
            return execute(self, module)
        with switched(recorder, IMPORT):
            return execute(self, module)

    loader.exec_module = exec_module


def attribute_fixtures(recorder):
    """Give class and module fixtures contexts of their own, `pkg.mod.Class:setUpClass` style.

    unittest's suite calls these hooks before every test; they act only when the class or the
    module changes.
    """
    suite = unittest.suite.TestSuite

    def wrap(method, name_context):
        original = getattr(suite, method)

        def hook(self, *args):
            context = name_context(*args)
            if context is None:
                return original(self, *args)
            with switched(recorder, context):
                return original(self, *args)

        setattr(suite, method, hook)

    def previous(result):
        return getattr(result, "_previousTestClass", None)

    def qualify(cls, fixture):
        plain = unittest.TestCase.__dict__[fixture].__func__
        own = getattr(getattr(cls, fixture, None), "__func__", plain)
        return None if own is plain else "%s.%s:%s" % (cls.__module__, cls.__qualname__, fixture)

    def set_up_class(test, result):
        return (
            None if previous(result) is test.__class__ else qualify(test.__class__, "setUpClass")
        )

    def tear_down_class(test, result):
        last = previous(result)
        same = last is None or last is test.__class__
        return None if same else qualify(last, "tearDownClass")

    def set_up_module(test, result):
        last = getattr(previous(result), "__module__", None)
        module = test.__class__.__module__
        return None if last == module else "%s:setUpModule" % module

    def tear_down_module(result):
        last = getattr(previous(result), "__module__", None)
        return None if last is None else "%s:tearDownModule" % last

    wrap("_handleClassSetUp", set_up_class)
    wrap("_tearDownPreviousClass", tear_down_class)
    wrap("_handleModuleFixture", set_up_module)
    wrap("_handleModuleTearDown", tear_down_module)
