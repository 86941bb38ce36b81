"""covtrack.jenkins.following: what is done about a build, by what Jenkins says of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from testtools import TestCase

from covtrack.endings import TOO_LONG
from covtrack.jenkins.following import GRACE, WAITED, Act, Look, Move, Wish, decide
from covtrack.jenkins.values import BuildInfo, QueueItem
from covtrack.store.queued import Build, BuildState

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def build(state: BuildState = BuildState.QUEUED, age: timedelta = timedelta(0)) -> Build:
    return Build(
        run_id="r",
        job_id=1,
        token_sha256="",
        order={},
        baseline=None,
        state=state,
        attempt=1,
        queue_id=None,
        number=None,
        url="",
        node="",
        created_at=NOW - age,
        told_at=None,
        ended_at=None,
        result=None,
        error="",
        run_ids=None,
    )


def info(building: bool, result: str | None = None, age: timedelta = timedelta(0)) -> BuildInfo:
    return BuildInfo.model_validate(
        {
            "number": 7,
            "building": building,
            "result": result,
            "builtOn": "agent1",
            "timestamp": (NOW - age).timestamp() * 1000,
        }
    )


def told(subject: Build, shown: BuildInfo | QueueItem | None, **words: Any) -> Move:
    """The move where Jenkins shows that of the build."""
    wish = {"wanted": True, "time_limit": HOUR, "queue_patience": HOUR, **words}
    look = Look(
        at=NOW,
        items={"r": shown} if isinstance(shown, QueueItem) else {},
        builds={"r": shown} if isinstance(shown, BuildInfo) else {},
    )
    return decide(subject, look, Wish(**wish))


class DecideTest(TestCase):
    def test_what_runs_is_waited_for(self) -> None:
        move = told(build(), info(True))
        self.assertEqual((Act.WAIT, "build 7 on agent1"), (move.act, move.progress))
        self.assertEqual(("building", 7), (move.values["state"], move.values["number"]))
        # A result is told before the artifacts are there.
        self.assertIs(Act.WAIT, told(build(), info(True, "SUCCESS")).act)

    def test_a_build_that_has_no_node_yet(self) -> None:
        words = {"number": 7, "building": True, "builtOn": None, "timestamp": 0}
        move = told(build(), BuildInfo.model_validate(words))
        self.assertEqual("build 7 on Jenkins", move.progress)

    def test_what_ended_is_collected_whatever_its_result(self) -> None:
        for result in ("SUCCESS", "FAILURE", "ABORTED", None):
            move = told(build(), info(False, result))
            self.assertEqual((Act.COLLECT, result), (move.act, move.values["result"]))

    def test_what_nobody_wants_is_stopped_and_closed(self) -> None:
        self.assertIs(Act.STOP, told(build(), info(True), wanted=False).act)
        self.assertIs(Act.CLOSE, told(build(), info(False), wanted=False).act)
        self.assertIs(Act.TAKE_OFF, told(build(), QueueItem(id=3), wanted=False).act)
        self.assertIs(Act.WAIT, told(build(), QueueItem(), wanted=False).act)
        self.assertIs(Act.WAIT, told(build(), None, wanted=False).act)
        gone = told(build(), None, wanted=False, missed_at=NOW - GRACE)
        self.assertIs(Act.CLOSE, gone.act)

    def test_what_takes_too_long_is_stopped(self) -> None:
        move = told(build(), info(True, age=HOUR + timedelta(seconds=1)))
        self.assertEqual((Act.STOP, TOO_LONG), (move.act, move.values["error"]))
        self.assertIs(Act.WAIT, told(build(), info(True, age=HOUR)).act)

    def test_what_waits_is_waited_for_until_patience_ends(self) -> None:
        item = QueueItem(id=3, why="Waiting for next available executor")
        move = told(build(BuildState.ORDERED), item)
        self.assertEqual(
            (Act.WAIT, "queued", 3), (move.act, move.values["state"], move.values["queue_id"])
        )
        self.assertEqual("waits on Jenkins: Waiting for next available executor", move.progress)
        old = build(age=HOUR + timedelta(seconds=1))
        move = told(old, item)
        self.assertEqual((Act.TAKE_OFF, WAITED), (move.act, move.values["error"]))
        self.assertIs(Act.WAIT, told(old, QueueItem(why="???")).act)
        self.assertEqual("waits on Jenkins", told(old, QueueItem(why="???")).progress)

    def test_what_was_never_seen_is_asked_for_but_not_twice_at_once(self) -> None:
        ordered = build(BuildState.ORDERED)
        self.assertIs(Act.ASK, told(ordered, None).act)
        self.assertIs(Act.WAIT, told(ordered, None, asked_at=NOW - GRACE / 2).act)
        self.assertIs(Act.ASK, told(ordered, None, asked_at=NOW - GRACE).act)

    def test_what_is_seen_no_more_is_lost_after_a_while(self) -> None:
        for state in (BuildState.QUEUED, BuildState.BUILDING):
            self.assertIs(Act.WAIT, told(build(state), None).act)
            self.assertIs(Act.WAIT, told(build(state), None, missed_at=NOW - GRACE / 2).act)
            self.assertIs(Act.LOSE, told(build(state), None, missed_at=NOW - GRACE).act)
