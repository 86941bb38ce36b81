"""Which tests run: all, those of changed test files (the original method), or those affected.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.affected import Reached
from jobs.bounds import Bounds
from jobs.merge import BETWEEN_TESTS
from jobs.suite import FIXTURES, TestModule


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Modules to load, and of the tests known in them those to `skip`; what is new always runs.

    `carry` is False for a full run: nothing of a base is then carried. `gone` are names of
    modules that are no more. `imports` are files whose import may do something else now;
    `reasons` say of tests and modules why they run. `loaded` are names of modules that are loaded
    for tests which are not known yet. `spared` are tests that would run for a reason, but whose
    lines others prove; `bounds` tell which may be. `reached` are fixtures' contexts that the
    change reaches. `pending` are contexts that prove nothing until the rest of a change has run.
    """

    run: tuple[TestModule, ...]
    carry: bool = True
    gone: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loaded: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()
    bounds: Bounds | None = None
    reached: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()

    def reason(self, test: str, module: str) -> str:
        """Why a test ran."""
        return self.reasons.get(test) or self.reasons.get(module) or "it is new"


def select_all(
    modules: Sequence[TestModule], measured: Collection[str], why: str, *, note: bool = False
) -> Selection:
    """Every test; `why` is a sentence, told to the user if `note`."""
    reason = f"{why[0].lower()}{why[1:].rstrip('.')}"
    return Selection(
        run=tuple(modules),
        carry=False,
        gone=frozenset(measured) - {module.name for module in modules},
        reasons={module.name: reason for module in modules},
        notes=(f"{why} All tests run.",) if note else (),
    )


def select_changed(
    modules: Sequence[TestModule],
    changed: Collection[str],
    measured: Collection[str],
    imports: Collection[str],
) -> Selection:
    """The tests of changed test files, whole: `changed` is what `git diff --name-only` prints."""
    run = {module: path for module in modules for path in changed if module.owns(path)}
    return Selection(
        run=tuple(run),
        gone=frozenset(measured) - {module.name for module in modules},
        imports=frozenset(imports),
        reasons={module.name: f"{path} changed" for module, path in run.items()},
        reached=frozenset(f"{module.name}:{BETWEEN_TESTS}" for module in run),
    )


def select_affected(
    modules: Sequence[TestModule],
    known: Mapping[str, str],
    reached: Reached,
    *,
    other_tests: bool = False,
) -> Selection:
    """The tests that a change reaches, and those that are new.

    `known` maps the base's tests to their modules' names. Modules that may hold other tests now
    are loaded, and what is not known of them runs. With `other_tests`, tests may ask for other
    fixtures now: what ran between the tests of a module that runs is not carried.
    """
    reasons = {
        test: why
        for context, why in reached.contexts.items()
        for test in tests_around(context, known)
    }
    measured = frozenset(known.values())
    for_new: set[str] = set()
    for module in modules:
        why = next((w for path, w in reached.modules.items() if module.owns(path)), None)
        if module.name not in measured:
            reasons[module.name] = f"{module.path} is new"
        elif why is None:
            continue
        for_new.add(module.name)
    loaded = {known[test] for test in reasons if test in known} | for_new
    return Selection(
        run=tuple(module for module in modules if module.name in loaded),
        gone=measured - {module.name for module in modules},
        skip=frozenset(_to_skip(known, reasons, loaded)),
        imports=frozenset(reached.imports),
        reasons=reasons,
        loaded=frozenset(for_new),
        reached=frozenset(
            {
                *_reached_fixtures(reached.contexts.keys() - known.keys()),
                *(f"{name}:{BETWEEN_TESTS}" for name in loaded if other_tests),
            }
        ),
    )


def _reached_fixtures(contexts: Iterable[str]) -> Iterator[str]:
    """The contexts of fixtures, and of what runs between tests that may be others now."""
    for context in contexts:
        yield context
        owner, colon, fixture = context.rpartition(":")
        if colon and fixture == "load_tests":
            yield f"{owner}:{BETWEEN_TESTS}"


def find_reached_tests(selection: Selection, known: Mapping[str, str]) -> frozenset[str]:
    """The known tests (by id, with their modules' names) that a selection runs."""
    names = {module.name for module in selection.run}
    return frozenset(
        test for test, module in known.items() if module in names and test not in selection.skip
    )


def narrow(selection: Selection, known: Mapping[str, str], tests: Collection[str]) -> Selection:
    """The selection with just those of its known tests; what is not known of them runs too."""
    loaded = {known[test] for test in tests if test in known} | selection.loaded
    return replace(
        selection,
        run=tuple(module for module in selection.run if module.name in loaded),
        skip=frozenset(_to_skip(known, tests, loaded)),
    )


def tests_around(context: str, known: Mapping[str, str]) -> Iterable[str]:
    """The tests that a context stands for: itself, or all that a fixture serves."""
    if context in known:
        return (context,)
    owner, colon, fixture = context.rpartition(":")
    if not colon:
        return known if not context else ()  # "" is nobody's: anybody may need what it ran
    if fixture in FIXTURES:
        failed = f"{fixture} ({owner})"  # then it stands for tests that are not known
        return [test for test in known if test == failed or test.startswith(f"{owner}.")]
    if "/" in owner:
        return ()  # the import of a file is around no test
    return [test for test, module in known.items() if owner in (module, _class_module(test))]


def _class_module(test: str) -> str:
    """The module of a test's class: its id without the last two names."""
    return ".".join(test.partition("(")[0].split(".")[:-2])


def _to_skip(
    known: Mapping[str, str], reasons: Collection[str], loaded: Collection[str]
) -> Iterable[str]:
    """Known tests of loaded modules that need not run, by the ids that loading gives them.

    A test that gets its scenarios as it runs is loaded under its id without them.
    """
    wanted = {test.partition("(")[0] for test in reasons}
    for test, module in known.items():
        if module in loaded and test not in reasons:
            yield test
            plain = test.partition("(")[0]
            if plain not in wanted:
                yield plain
