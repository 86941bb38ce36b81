"""Runs named test modules under stestr's runner, recording: `worker.py PLAN.json`

Writes subunit v2 to PLAN's "stream". The same as `python -m stestr.subunit_runner.run NAME...`,
with a recorder around it. PLAN.json: {"root", "folder", "stream", "report", "ticks",
"modules": [names], "only": [test ids] or null, "skip": [test ids], "match": [regexes],
"avoid": [regexes], "imports": [module names], "source": [...], "branch": bool or null,
"measured": [paths], "tree": [paths],
"recorder": "auto" | "branching" | "coverage" | "plain" | "none"}

"measured" are the files whose coverage counts, "tree" all others whose use is recorded.

The report (JSON): {"recorder", "tests": {module: [ids]}, "deselected": [ids],
"import_errors": {module: text}, "finished": bool}. One byte is added to "ticks" whenever a
test ends.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import runpy
import sys
import traceback
import unittest
from collections.abc import Iterable
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
# unittest's own stand-ins for modules that skip themselves or do not import.
LOADER: Any = unittest.loader
BETWEEN = ":between"


class NamedLoader(unittest.TestLoader):
    """Loads modules as discovery would: load_tests gets the pattern, a failed import is a test."""

    def __init__(self, recorder: Any) -> None:
        super().__init__()
        self.recorder = recorder
        self.tests: dict[str, list[str]] = {}

    def loadTestsFromName(self, name: str, module: Any = None) -> Any:  # noqa: N802 (unittest's name)
        from stestr.subunit_runner import program

        self.recorder.switch("%s:load_tests" % name)
        try:
            __import__(name)
            suite = self.loadTestsFromModule(sys.modules[name], pattern="test*.py")
        except unittest.SkipTest as skip:
            suite = LOADER._make_skipped_test(name, skip, self.suiteClass)
        except BaseException:  # other people's code: SystemExit at import is an error like any
            suite = LOADER._make_failed_import_test(name, self.suiteClass)
            suite = suite[0] if isinstance(suite, tuple) else suite
        self.tests[name] = program.list_test(suite)[0]
        return suite


def make_runner(recorder: Any, footprint: Any, ticks: int, last: list[str]) -> Any:
    """stestr's runner class, with the recorder's context switched around each test."""
    from stestr.subunit_runner import run

    class ContextResult(run.AutoTimingTestResultDecorator):
        def startTest(self, test: Any) -> None:  # noqa: N802 (unittest's name)
            super().startTest(test)
            module = test.__class__.__module__
            recorder.claim(module)
            footprint.claim(module)
            last[-1] = module
            recorder.switch(test.id())

        def stopTest(self, test: Any) -> None:  # noqa: N802 (unittest's name)
            recorder.switch(BETWEEN)
            super().stopTest(test)
            os.write(ticks, b".")

    run.AutoTimingTestResultDecorator = ContextResult
    return run.SubunitTestRunner


class NoFootprint:
    """Notes nothing."""

    def claim(self, module: str) -> None:
        pass

    def write(self, path: str) -> None:
        pass


class NoRecorder:
    """Runs tests bare: for reruns that only ask for the outcome."""

    name = "none"
    context = ""

    def start(self) -> None:
        pass

    def switch(self, context: str) -> None:
        pass

    def claim(self, module: str) -> None:
        pass

    def stop(self) -> None:
        pass


def make_recorder(plan: dict[str, Any]) -> Any:
    if plan["recorder"] == "none":
        return NoRecorder()
    recording = runpy.run_path(os.path.join(HERE, "recorder.py"))
    cov = recording["configure"](plan["folder"], plan["source"], plan["branch"])
    monitoring = runpy.run_path(os.path.join(HERE, "monitoring.py"))
    if plan["recorder"] == "plain":
        if monitoring["can_record"](cov):
            os.environ["COVERAGE_CORE"] = "sysmon"
            cov = recording["configure"](plan["folder"], plan["source"], plan["branch"])
        return recording["PlainRecorder"](cov)
    accepted = plan["recorder"] == "branching"
    if (accepted or plan["recorder"] == "auto") and monitoring["can_record"](cov, accepted):
        exact = {os.path.join(plan["root"], path): path for path in plan["measured"]}
        rest = {os.path.join(plan["root"], path): path for path in plan["tree"]}
        branching = None
        if cov.get_option("run:branch"):
            branching = runpy.run_path(os.path.join(HERE, "branching.py"))["Branching"]
        recorder = monitoring["MonitoringRecorder"](
            plan["folder"], {**exact, **rest}, exact, branching
        )
    else:
        recording["record_all"](cov, plan["root"])
        recorder = recording["CoverageRecorder"](cov)
    recording["attribute_imports"](recorder, plan["root"])
    recording["attribute_fixtures"](recorder)
    return recorder


def make_footprint(plan: dict[str, Any], recorder: Any) -> Any:
    footprint = runpy.run_path(os.path.join(HERE, "footprint.py"))["Footprint"]
    return footprint(plan["root"], recorder)


def import_modules(names: Iterable[str]) -> dict[str, str]:
    """Import each module not loaded yet; the text of the error for those that fail."""
    errors = {}
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException:  # other people's code: SystemExit at import is an error like any
            errors[name] = traceback.format_exc()
    return errors


def run_tests(plan: dict[str, Any], recorder: Any, footprint: Any, report: dict[str, Any]) -> None:
    from stestr.subunit_runner import program

    loader = NamedLoader(recorder)
    last = [""]

    class Program(program.TestProgram):
        test: Any

        def runTests(self) -> None:  # noqa: N802 (unittest's name)
            recorder.switch(BETWEEN)
            ids = [test for loaded in loader.tests.values() for test in loaded]
            chosen = choose_tests(ids, plan)
            report["tests"] = loader.tests
            report["deselected"] = [test for test in ids if test not in chosen]
            write_report(plan, report)
            if report["deselected"]:
                self.test = program.filter_by_ids(
                    self.test, chosen | set(failed_imports(self.test))
                )
            super().runTests()

    ticks = os.open(plan["ticks"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with open(plan["stream"], "wb") as stream:
        runner = functools.partial(make_runner(recorder, footprint, ticks, last), stdout=stream)
        arguments = ["covtrack", *plan["modules"]]
        Program(module=None, argv=arguments, testRunner=runner, testLoader=loader)
    recorder.claim(last[-1])
    footprint.claim(last[-1])


def choose_tests(ids: list[str], plan: dict[str, Any]) -> set[str]:
    """The set of test ids that the plan wants of those that were loaded.

    An id of "skip" without scenario stands for all scenarios that it gets as it runs.
    """
    wanted = set(ids if plan["only"] is None else plan["only"]) - set(plan["skip"])

    def found(patterns: list[str], test: str) -> bool:
        return any(re.search(pattern, test) for pattern in patterns)

    return {
        test
        for test in ids
        if test in wanted
        and (not plan["match"] or found(plan["match"], test))
        and not found(plan["avoid"], test)
    }


def failed_imports(suite: Any) -> list[str]:
    """Ids of the stand-ins for modules that did not import: they are told in any case."""
    from stestr.subunit_runner import program

    ids = (test.id() for test in program.iterate_tests(suite))
    return [test for test in ids if test.startswith("unittest.loader._FailedTest.")]


def write_report(plan: dict[str, Any], report: dict[str, Any]) -> None:
    with open(plan["report"] + ".new", "w") as file:
        json.dump(report, file)
    os.replace(plan["report"] + ".new", plan["report"])


def main() -> None:
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    sys.argv = [sys.argv[0]]
    sys.path[0] = plan["root"]
    recorder = make_recorder(plan)
    report: dict[str, Any] = {"recorder": recorder.name, "tests": {}, "finished": False}
    import stestr.subunit_runner.run  # noqa: F401 (loaded before recording begins)

    bare = plan["recorder"] in ("none", "plain")
    footprint = NoFootprint() if bare else make_footprint(plan, recorder)
    recorder.start()
    if plan["modules"]:
        run_tests(plan, recorder, footprint, report)
    recorder.switch("")
    report["import_errors"] = import_modules(plan["imports"])
    recorder.stop()
    footprint.write(os.path.join(plan["folder"], "footprint.json"))
    report["finished"] = True
    write_report(plan, report)


if __name__ == "__main__":
    main()
    # Threads that a test left behind must not keep a finished worker alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
