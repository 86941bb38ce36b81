"""Which affected tests suffice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf

import testtools
from hypothesis import given
from hypothesis import strategies as st

from jobs.bounds import number_ways
from jobs.sufficient import (
    Bits,
    Candidate,
    afford,
    cheapest_cover,
    choose_first,
    choose_more,
    subtract,
    unite,
)

BITS = st.dictionaries(st.sampled_from(["a.py", "b.py"]), st.integers(0, 63))


@st.composite
def candidates(draw: st.DrawFn) -> Mapping[str, Candidate]:
    names = [f"t{number}" for number in range(draw(st.integers(0, 8)))]
    groups = st.one_of(st.none(), st.integers(0, 2))
    seconds = st.floats(0.0, 9.0)
    return {
        name: Candidate(test=name, seconds=draw(seconds), ran=draw(BITS), group=draw(groups))
        for name in names
    }


def make(test: str, bits: int, seconds: float = 1.0, group: int | None = 0) -> Candidate:
    return Candidate(test=test, seconds=seconds, ran={"a.py": bits}, group=group)


def by_name(*found: Candidate) -> dict[str, Candidate]:
    return {candidate.test: candidate for candidate in found}


def rows(found: Mapping[str, Candidate], tests: frozenset[str]) -> list[Bits]:
    return [found[test].ran for test in tests]


class CoverTest(testtools.TestCase):
    @given(BITS, candidates())
    def test_all_that_any_ran_is_covered_and_nobody_is_useless(
        self, wanted: Bits, found: Mapping[str, Candidate]
    ) -> None:
        chosen = cheapest_cover(wanted, found.values())
        left = subtract(wanted, unite(candidate.ran for candidate in chosen))
        self.assertEqual(left, subtract(wanted, unite(c.ran for c in found.values())))
        for number, candidate in enumerate(chosen):
            before = unite(c.ran for c in chosen[:number])
            new = subtract(candidate.ran, before)
            self.assertTrue(any(bits & wanted.get(path, 0) for path, bits in new.items()))

    def test_the_cheap_one_of_two_equals(self) -> None:
        dear, cheap = make("dear", 0b11, 5.0), make("cheap", 0b11, 0.1)
        self.assertEqual([cheap], cheapest_cover({"a.py": 0b11}, [dear, cheap]))

    def test_many_cheap_ones_before_a_dear_one(self) -> None:
        dear = make("dear", 0b111, 9.0)
        cheap = [make("x", 0b1), make("y", 0b10), make("z", 0b100)]
        self.assertEqual(cheap, cheapest_cover({"a.py": 0b111}, [dear, *cheap]))


class FirstTest(testtools.TestCase):
    @given(candidates(), BITS)
    def test_nothing_that_only_spared_tests_ran(
        self, found: Mapping[str, Candidate], safe: Bits
    ) -> None:
        chosen = choose_first(found, [], safe)
        spared = unite(rows(found, frozenset(found) - chosen))
        self.assertEqual({}, subtract(spared, unite([safe, *rows(found, chosen)])))
        ways = {c.group for c in found.values() if c.group is not None}
        self.assertEqual(ways, {found[test].group for test in chosen} - {None})

    def test_what_is_safe_asks_for_nobody(self) -> None:
        found = by_name(make("x", 0b11, group=None), make("y", 0b01, group=None))
        self.assertEqual(frozenset(), choose_first(found, [], {"a.py": 0b11}))

    def test_forced_ones_stand_for_their_way(self) -> None:
        found = by_name(make("x", 0b1, 0.1), make("y", 0b1, 5.0))
        self.assertEqual({"y"}, choose_first(found, ["y"], {}))


class MoreTest(testtools.TestCase):
    spared = by_name(
        make("x", 0b01, group=None), make("y", 0b11, 2.0), make("z", 0b10, 3.0, group=1)
    )

    def more(
        self,
        proven: int,
        *,
        doubtful: bool = False,
        groups: tuple[int, ...] = (),
        exhaust: bool = False,
    ) -> frozenset[str]:
        return choose_more(
            self.spared, {"a.py": proven}, doubtful=doubtful, groups=groups, exhaust=exhaust
        )

    def test_nothing_where_all_is_proven(self) -> None:
        self.assertEqual(frozenset(), self.more(0b11))

    def test_an_unproven_line_asks_for_enough_then_for_all(self) -> None:
        self.assertEqual({"x"}, self.more(0b10))
        self.assertEqual({"x", "y"}, self.more(0b10, exhaust=True))

    def test_a_doubt_asks_for_all_that_the_change_reaches(self) -> None:
        self.assertEqual({"y", "z"}, self.more(0b11, doubtful=True))

    def test_another_way_asks_for_all_that_went_it(self) -> None:
        self.assertEqual({"z"}, self.more(0b11, groups=(1,)))


def first_within(
    found: Mapping[str, Candidate], forced: Collection[str], safe: Bits, seconds: float
) -> frozenset[str]:
    """The first round of a job with a budget."""
    return afford(
        choose_first(found, forced, safe),
        found,
        forced=forced,
        wanted=subtract(unite(c.ran for c in found.values()), safe),
        taken=(),
        seconds=seconds,
    )


class AffordTest(testtools.TestCase):
    @given(candidates(), st.sets(st.integers(0, 7)), BITS, st.floats(0.0, 30.0))
    def test_never_more_than_what_is_forced_and_the_budget(
        self, found: Mapping[str, Candidate], numbers: set[int], safe: Bits, seconds: float
    ) -> None:
        forced = {f"t{number}" for number in numbers} & found.keys()
        chosen = first_within(found, forced, safe, seconds)
        self.assertLessEqual(forced, chosen)
        self.assertLessEqual(chosen, choose_first(found, forced, safe))
        spent = sum(found[test].seconds for test in forced)
        beside = sum(found[test].seconds for test in chosen - forced)
        self.assertLessEqual(beside, max(0.0, seconds - spent) + 1e-6)
        # What was left out would not have fitted in.
        room = seconds - spent - beside
        for test in choose_first(found, forced, safe) - chosen:
            self.assertGreater(found[test].seconds, room - 1e-6)

    @given(candidates(), st.sets(st.integers(0, 7)), BITS)
    def test_without_end_it_is_what_is_chosen_without_a_budget(
        self, found: Mapping[str, Candidate], numbers: set[int], safe: Bits
    ) -> None:
        forced = {f"t{number}" for number in numbers} & found.keys()
        whole = choose_first(found, forced, safe)
        self.assertEqual(whole, first_within(found, forced, safe, inf))

    def test_what_proves_most_for_its_seconds_goes_first(self) -> None:
        dear = make("dear", 0b001, 1.0, group=None)
        cheap = make("cheap", 0b110, 1.0, group=None)
        found = by_name(dear, cheap)
        self.assertEqual({"cheap"}, first_within(found, (), {}, 1.5))
        self.assertEqual({"cheap", "dear"}, first_within(found, (), {}, 2.0))

    def test_a_new_way_is_worth_a_line(self) -> None:
        known = make("known", 0b1, 1.0, group=None)
        way = Candidate(test="way", seconds=0.5, ran={}, group=1)
        self.assertEqual({"way"}, first_within(by_name(known, way), (), {}, 1.0))

    def test_what_does_not_fit_is_passed_over(self) -> None:
        dear, small = make("dear", 0b111, 2.0, None), make("small", 0b1000, 1.0, None)
        self.assertEqual({"small"}, first_within(by_name(dear, small), (), {}, 1.0))

    def test_forced_tests_run_beyond_the_budget(self) -> None:
        found = by_name(make("changed", 0b1, 9.0), make("other", 0b10, 0.1, 1))
        self.assertEqual({"changed"}, first_within(found, ["changed"], {}, 1.0))


class WaysTest(testtools.TestCase):
    def test_the_same_lines_are_one_way(self) -> None:
        ran = [("x", "a.py", 3), ("y", "a.py", 3), ("z", "a.py", 1), ("z", "b.py", 2)]
        ways = number_ways(["x", "y", "z", "idle"], [*ran, ("other", "a.py", 1)])
        self.assertEqual(ways["x"], ways["y"])
        self.assertEqual(3, len(set(ways.values())))
        self.assertNotIn("other", ways)
