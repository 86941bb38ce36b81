"""What went wrong, told apart: whose fault it is, in one sentence, with the way out. Pure.

An import that fails because a distribution or a system library is missing is the environment's
fault and never the patch's; a test whose outcome hangs on which tests ran beside it is a company
fault (the 2013 team found many upstream).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jobs.outcomes import failed_import
from jobs.results import Fault, FaultKind, Outcome, Status
from jobs.runner import WorkerResult

NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
NO_LIBRARY = re.compile(r"(?:ImportError|OSError): (lib[\w.+-]+\.so[\w.]*): cannot open shared")
NO_PROGRAM = re.compile(r"FileNotFoundError: \[Errno 2\] No such file or directory: '([\w.+-]+)'$")
FIXTURE = re.compile(r"^(?:setUp|tearDown)(?:Class|Module) \((.+)\)$")
LAST_ERROR = re.compile(r"^(\w[\w.]*(?:Error|Exception|Exit|Interrupt)\b.*)$", re.MULTILINE)

# Distributions that are not named like the module they provide.
PROVIDERS = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "git": "GitPython",
    "ldap": "python-ldap",
    "ldappool": "ldappool",
    "memcache": "python-memcached",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "psycopg2": "psycopg2-binary",
    "saml2": "pysaml2",
    "swiftclient": "python-swiftclient",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
OSLO_OR_CLIENT = re.compile(r"^(oslo)_(\w+)$|^(\w+)client$")


def guess_distribution(module: str) -> str:
    """The distribution that most likely provides a module: known, by OpenStack's habit, or alike.

    >>> guess_distribution("oslo_config.cfg"), guess_distribution("novaclient")
    ('oslo.config', 'python-novaclient')
    """
    top = module.partition(".")[0]
    if top in PROVIDERS:
        return PROVIDERS[top]
    match = OSLO_OR_CLIENT.match(top)
    if match and match[1]:
        return f"oslo.{match[2]}"
    return f"python-{top}" if match else top.replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the classification knows of the project.

    `is_own` tells whether a top-level module name belongs to the project's tree; `system`
    gives the bindep.txt packages that mention a word.
    """

    project: str
    is_own: Callable[[str], bool]
    system: Callable[[str], Sequence[str]]


def classify_failure(outcome: Outcome, context: Context) -> Fault:
    """The fault behind one failed test or failed import."""
    module = failed_import(outcome.test)
    subject = module or outcome.test
    missing = NO_MODULE.search(outcome.details)
    if missing and not _is_ours(missing[1], context):
        return _missing_distribution(subject, missing[1], context)
    library = NO_LIBRARY.search(outcome.details)
    if library:
        return _missing_library(subject, library[1], context)
    reason = _last_error(outcome.details)
    program = NO_PROGRAM.search(reason)
    if program and (packages := context.system(program[1].partition("-")[0])):
        return _missing_program(subject, program[1], packages)
    if module:
        return Fault(
            kind=FaultKind.IMPORT,
            subject=subject,
            sentence=f"{subject} did not import: {reason}.",
            advice="Its tests did not run; mend the module, then run again.",
        )
    return Fault(
        kind=FaultKind.TEST,
        subject=subject,
        sentence=f"{subject} failed: {reason}.",
        advice="What it ran still counts as covered; whether it may fail is the gate's question.",
    )


def _is_ours(module: str, context: Context) -> bool:
    top = module.partition(".")[0]
    return context.is_own(top) or top in sys.stdlib_module_names


def _missing_distribution(subject: str, module: str, context: Context) -> Fault:
    provider = guess_distribution(module)
    return Fault(
        kind=FaultKind.ENVIRONMENT,
        subject=subject,
        sentence=f"{subject} needs the module {module}, which no distribution of the "
        f"environment provides.",
        advice=f'Add extra_packages = ["{provider}"] to the project {context.project} in '
        "covtrack.toml, or declare it in the project's test requirements.",
    )


def _missing_library(subject: str, library: str, context: Context) -> Fault:
    word = re.sub(r"^lib|[-.\d]*\.so.*$", "", library)
    packages = context.system(word)
    named = f" bindep.txt names {', '.join(packages)}." if packages else ""
    return Fault(
        kind=FaultKind.ENVIRONMENT,
        subject=subject,
        sentence=f"{subject} needs the system library {library}, which this machine lacks.",
        advice=f"Install the system package that holds it.{named}",
    )


def _missing_program(subject: str, program: str, packages: Sequence[str]) -> Fault:
    return Fault(
        kind=FaultKind.ENVIRONMENT,
        subject=subject,
        sentence=f"{subject} needs the program {program}, which this machine lacks.",
        advice=f"Install the system packages that bindep.txt names: {', '.join(packages)}.",
    )


def _last_error(details: str) -> str:
    found = LAST_ERROR.findall(details)
    lines = [line.strip() for line in details.splitlines() if line.strip()]
    reason: str = found[-1] if found else lines[-1] if lines else "it gave no reason"
    return " ".join(reason.split())[:300].rstrip(".")


def company_fault(test: str, passes: str) -> Fault:
    """The fault of a test that only its company makes fail; `passes` says when it passes."""
    return Fault(
        kind=FaultKind.COMPANY,
        subject=test,
        sentence=f"{test} fails here but {passes}: its outcome hangs on its company.",
        advice="The change is not to blame; the test relies on what other tests leave behind.",
    )


def worker_faults(
    result: WorkerResult, outcomes: Sequence[Outcome], timeout: float
) -> list[Fault]:
    """Faults of a worker that did not end by itself, naming the test it was in."""
    if result.finished:
        return _lost_outcomes(result, outcomes)
    names = ", ".join(o.test for o in outcomes if o.status is Status.CRASHED)
    where = f"in {names}" if names else f"in {len(result.plan.modules)} test modules"
    if result.timed_out:
        return [
            Fault(
                kind=FaultKind.TIME,
                subject=names or "tests",
                sentence=f"Time was up after {timeout:.0f} s {where}; the tests were killed.",
                advice="Raise timeout for the project in covtrack.toml, or mend the test.",
            )
        ]
    cause = f"signal {result.status - 128}" if result.status > 128 else f"status {result.status}"
    words = f": {result.last_words}" if result.last_words else ""
    return [
        Fault(
            kind=FaultKind.CRASH,
            subject=names or "runner",
            sentence=f"The test runner ended by {cause} {where}{words}.",
            advice="Run that test alone under stestr to see why; a memory limit ends a process "
            "the same way.",
        )
    ]


def _lost_outcomes(result: WorkerResult, outcomes: Sequence[Outcome]) -> list[Fault]:
    """The fault of tests that ran and told nothing; a failed fixture stands for all its tests."""
    # testscenarios adds "(scenario)" to the ids of tests as they run.
    told = {name for o in outcomes for name in (o.test, o.test.partition("(")[0])}
    matches = [FIXTURE.match(outcome.test) for outcome in outcomes]
    fixtures = tuple(f"{match[1]}." for match in matches if match)
    lost = [
        test
        for tests in result.tests.values()
        for test in tests
        if test not in told and not test.startswith(fixtures)
    ]
    lost = sorted(set(lost) - set(result.deselected))
    if not lost:
        return []
    return [
        Fault(
            kind=FaultKind.CRASH,
            subject=lost[0],
            sentence=f"{len(lost)} tests left no result, {lost[0]} first.",
            advice="A test may have written into the runner's result stream; run it alone.",
        )
    ]


def nothing_measured(source: Sequence[str]) -> Fault:
    """The fault of a figure that counts no file at all."""
    return Fault(
        kind=FaultKind.DATA,
        subject="source",
        sentence="No file of the project is measured: its coverage settings, or the source "
        f"{', '.join(source)}, match none.",
        advice="Set source for the project in covtrack.toml, or mend its coverage settings.",
    )


def unparsed_faults(errors: Iterable[tuple[str, str]]) -> list[Fault]:
    """Faults of measured files that coverage.py cannot parse: they are left out, and said."""
    return [
        Fault(
            kind=FaultKind.DATA,
            subject=path,
            sentence=f"{path} could not be parsed and is left out of the figure: {reason}.",
            advice="Mend the file, or omit it in the project's coverage settings.",
        )
        for path, reason in errors
    ]
