"""Which of the affected tests suffice to prove every line that only they covered. Pure.

Coverage is a union: a line is proven by any test that ran it. Of the affected tests the cheapest
set is chosen whose lines, as far as the base knows them, are all those at risk; beside it one
test of each way through what changed. After they ran, what is still unproven or in doubt brings
in more, until every line is proven or every test that could reach it has run.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

Bits = Mapping[str, int]
# What the start of any test costs beside its own seconds.
TEST_SECONDS = 0.001
_WAYS = ""  # no file: where ways stand among lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A test that a change can reach, or whose lines rest on others since an earlier change.

    `ran` are its lines (or arcs) in the base as bits by path, at the new tree's numbers. Tests
    of one `group` went the same way through what changed; None is a test that no change reaches.
    """

    test: str
    seconds: float
    ran: Bits
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Statements of a function that changed or is new: any test that the change reaches may come.

    `first`..`last` are lines of the new file.
    """

    path: str
    first: int
    last: int


def unite(rows: Iterable[Bits]) -> dict[str, int]:
    """All that any of the rows holds."""
    found: dict[str, int] = {}
    for row in rows:
        for path, bits in row.items():
            found[path] = found.get(path, 0) | bits
    return found


def subtract(wanted: Bits, proven: Bits) -> dict[str, int]:
    """What of `wanted` is not proven."""
    left = ((path, bits & ~proven.get(path, 0)) for path, bits in wanted.items())
    return {path: bits for path, bits in left if bits}


def cheapest_cover(wanted: Bits, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates that together ran all of `wanted` that any of them ran, cheap ones first.

    Greedy: each adds most new lines for its seconds. What a candidate adds only shrinks, so it
    is counted anew when it comes to the front.
    """
    left = dict(wanted)
    waiting: list[tuple[float, str, Candidate]] = []
    for candidate in candidates:
        if gain := _gain(left, candidate.ran):
            waiting.append((_price(candidate, gain), candidate.test, candidate))
    heapq.heapify(waiting)
    chosen: list[Candidate] = []
    while waiting:
        _, test, candidate = heapq.heappop(waiting)
        gain = _gain(left, candidate.ran)
        if not gain:
            continue
        price = _price(candidate, gain)
        if waiting and price > waiting[0][0]:
            heapq.heappush(waiting, (price, test, candidate))
            continue
        chosen.append(candidate)
        for path, bits in candidate.ran.items():
            if path in left:
                left[path] &= ~bits
    return chosen


def _gain(left: Bits, ran: Bits) -> int:
    return sum((bits & left[path]).bit_count() for path, bits in ran.items() if path in left)


def _price(candidate: Candidate, gain: int) -> float:
    return (candidate.seconds + TEST_SECONDS) / gain


def choose_first(
    candidates: Mapping[str, Candidate], forced: Collection[str], safe: Bits
) -> frozenset[str]:
    """The tests of the first round: those `forced`, one of each way, and a cheapest cover.

    `safe` is what tests and imports that no change reaches have proven.
    """
    chosen = {test: candidates[test] for test in forced if test in candidates}
    taken = {candidate.group for candidate in chosen.values()}
    chosen |= {c.test: c for c in one_of_each_way(candidates.values(), taken)}
    proven = unite([safe, *(candidate.ran for candidate in chosen.values())])
    rest = [candidate for candidate in candidates.values() if candidate.test not in chosen]
    at_risk = subtract(unite(candidate.ran for candidate in rest), proven)
    return frozenset({*chosen, *(c.test for c in cheapest_cover(at_risk, rest))})


def one_of_each_way(
    candidates: Iterable[Candidate], taken: Collection[int | None]
) -> Iterator[Candidate]:
    """The quickest candidate of each way that is not `taken`."""
    known = {None, *taken}
    for candidate in sorted(candidates, key=lambda c: (c.seconds, c.test)):
        if candidate.group not in known:
            known.add(candidate.group)
            yield candidate


def afford(
    chosen: Collection[str],
    candidates: Mapping[str, Candidate],
    *,
    forced: Collection[str],
    wanted: Bits,
    taken: Collection[int | None],
    seconds: float,
) -> frozenset[str]:
    """Of the tests `chosen`, those `forced` and what `seconds` reach beside, cheapest proof first.

    A proof is cheap by how much of `wanted` it adds for its seconds; the first test of a way that
    is not `taken` adds as much as one more line. The seconds of the forced tests count too. What
    does not fit is passed over for what does.
    """
    first = {test for test in forced if test in chosen}
    left = seconds - sum(candidates[test].seconds for test in first if test in candidates)
    spent = 0.0
    rest = [candidates[test] for test in chosen if test in candidates and test not in first]
    done = [candidates[test] for test in first if test in candidates]
    open_wanted = subtract(wanted, unite(candidate.ran for candidate in done))
    for candidate in _by_price(rest, open_wanted, {*taken, *(c.group for c in done)}):
        if spent + candidate.seconds <= left:
            spent += candidate.seconds
            first.add(candidate.test)
    return frozenset(first)


def _by_price(
    tests: Collection[Candidate], wanted: Bits, taken: Collection[int | None]
) -> list[Candidate]:
    """All of the tests, those that prove most for their seconds first, the useless ones last."""
    marked = {c.test: replace(c, ran={**c.ran, _WAYS: _mark(c, taken)}) for c in tests}
    ways = unite({_WAYS: c.ran[_WAYS]} for c in marked.values())
    order = {c.test: None for c in cheapest_cover({**wanted, **ways}, marked.values())}
    order |= {c.test: None for c in sorted(tests, key=lambda c: (c.seconds, c.test))}
    known = {c.test: c for c in tests}
    return [known[test] for test in order]


def _mark(candidate: Candidate, taken: Collection[int | None]) -> int:
    """A bit for the candidate's way, unless that is taken."""
    return 0 if candidate.group is None or candidate.group in taken else 1 << candidate.group


def choose_more(
    spared: Mapping[str, Candidate],
    proven: Bits,
    *,
    doubtful: bool,
    groups: Collection[int | None],
    exhaust: bool,
) -> frozenset[str]:
    """The tests of the next round; none if what did not run may stay so.

    `spared` are the candidates that did not run, `proven` all that ran now or is safe;
    `doubtful` says that statements of what changed did not run: all that the change reaches run
    then. `groups` are those of tests that took another way than before. With `exhaust`, every
    test that could prove a line runs, not just enough of them.
    """
    at_risk = subtract(unite(candidate.ran for candidate in spared.values()), proven)
    if exhaust:
        chosen = {c.test for c in spared.values() if _gain(at_risk, c.ran)}
    else:
        chosen = {c.test for c in cheapest_cover(at_risk, spared.values())}
    reached = (candidate for candidate in spared.values() if candidate.group is not None)
    chosen |= {candidate.test for candidate in reached if doubtful or candidate.group in groups}
    return frozenset(chosen)
