"""covtrack.gerrit.dispatch: what each event asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from testtools import TestCase

from covtrack.gerrit.dispatch import NOTHING, Actions, dispatch
from covtrack.gerrit.events import Event, EventKind
from covtrack.settings import TrackedProject
from covtrack.store.queued import ChangeStatus, JobKind, KnownChange

SHA = "a" * 40
PROJECT = TrackedProject(name="demo", git="/demo", gerrit="g", gerrit_project="group/demo")
CREATED = Event(
    kind=EventKind.PATCH_SET,
    project="group/demo",
    branch="master",
    change=7,
    patch_set=2,
    commit=SHA,
    ref="refs/changes/07/7/2",
    subject="Fix it",
    at=1,
)
SEEN = replace(CREATED, kind=EventKind.SEEN, status="NEW")
KNOWN = KnownChange(
    server="g",
    change=7,
    project="group/demo",
    branch="master",
    patch_set=2,
    commit=SHA,
    ref="refs/changes/07/7/2",
    subject="Fix it",
)


def act(event: Event, known: KnownChange | None = None, **project: Any) -> Actions:
    return dispatch("g", event, known, [PROJECT.model_copy(update=project)])


class PatchSetTest(TestCase):
    def test_a_new_change(self) -> None:
        actions = act(CREATED)
        self.assertEqual(KNOWN, actions.change)
        self.assertEqual(2, actions.superseded_below)
        self.assertFalse(actions.cancelled)
        (job,) = actions.jobs
        self.assertEqual(
            ("demo", JobKind.CHANGE, 7, 2, SHA, "refs/changes/07/7/2"),
            (job.project, job.kind, job.change, job.patch_set, job.commit, job.ref),
        )

    def test_a_newer_patch_set_supersedes_the_older_alone(self) -> None:
        newer = replace(CREATED, patch_set=3, commit="b" * 40)
        self.assertEqual(3, act(newer, KNOWN).superseded_below)

    def test_an_older_one_that_comes_late_changes_nothing(self) -> None:
        self.assertEqual(NOTHING, act(replace(CREATED, patch_set=1), KNOWN))

    def test_other_projects_and_servers_are_dropped(self) -> None:
        self.assertEqual(NOTHING, act(replace(CREATED, project="group/other")))
        self.assertEqual(NOTHING, act(CREATED, gerrit="h"))
        self.assertEqual(NOTHING, act(CREATED, gerrit=None))

    def test_two_projects_of_one_repository_are_both_measured(self) -> None:
        unit = PROJECT.model_copy(update={"name": "demo-unit"})
        jobs = dispatch("g", CREATED, None, [PROJECT, unit]).jobs
        self.assertEqual(["demo", "demo-unit"], [job.project for job in jobs])

    def test_hidden_changes_wait(self) -> None:
        for hidden in (replace(CREATED, wip=True), replace(CREATED, private=True)):
            actions = act(hidden)
            self.assertEqual((), actions.jobs)
            self.assertIsNotNone(actions.change)


class StateTest(TestCase):
    def test_merged(self) -> None:
        merged = replace(CREATED, kind=EventKind.MERGED, commit="c" * 40)
        actions = act(merged, KNOWN)
        assert actions.change
        self.assertEqual((ChangeStatus.MERGED, True), (actions.change.status, actions.cancelled))
        (job,) = actions.jobs
        self.assertEqual((JobKind.ADVANCE, "c" * 40), (job.kind, job.commit))

    def test_abandoned_and_restored(self) -> None:
        gone = act(replace(CREATED, kind=EventKind.ABANDONED), KNOWN)
        assert gone.change
        self.assertEqual(
            (ChangeStatus.ABANDONED, True, ()), (gone.change.status, gone.cancelled, gone.jobs)
        )
        back = act(replace(CREATED, kind=EventKind.RESTORED), gone.change)
        assert back.change
        self.assertEqual((ChangeStatus.OPEN, 1), (back.change.status, len(back.jobs)))

    def test_ready_for_review(self) -> None:
        hidden = replace(KNOWN, wip=True)
        ready = act(replace(CREATED, kind=EventKind.WIP), hidden)
        self.assertEqual(1, len(ready.jobs))
        self.assertEqual((), act(replace(CREATED, kind=EventKind.WIP, wip=True), KNOWN).jobs)
        self.assertEqual((), act(replace(CREATED, kind=EventKind.PRIVATE), KNOWN).jobs)

    def test_recheck(self) -> None:
        asked = replace(
            CREATED, kind=EventKind.COMMENT, comment="Patch Set 2:\n\nrecheck coverage"
        )
        (job,) = act(asked, KNOWN).jobs
        self.assertEqual("recheck coverage", job.reason)
        for said in ("recheck", "do not recheck coverage please", "recheck coverages", ""):
            self.assertEqual((), act(replace(asked, comment=said), KNOWN).jobs, said)
        self.assertEqual((), act(replace(asked, patch_set=1), KNOWN).jobs)

    def test_seen_again(self) -> None:
        for known in (
            replace(KNOWN, status=ChangeStatus.ABANDONED),
            replace(KNOWN, wip=True),
            replace(KNOWN, private=True),
            replace(KNOWN, patch_set=1),
            None,
        ):
            actions = act(SEEN, known)
            self.assertEqual(KNOWN, actions.change)
            self.assertEqual(1, len(actions.jobs), str(known))

    def test_seen_as_it_is_known(self) -> None:
        self.assertEqual(Actions(change=KNOWN, superseded_below=2), act(SEEN, KNOWN))
        self.assertEqual(NOTHING, act(replace(SEEN, patch_set=1), KNOWN))

    def test_seen_hidden_or_abandoned(self) -> None:
        for event in (replace(SEEN, wip=True), replace(SEEN, private=True)):
            actions = act(event, KNOWN)
            assert actions.change
            self.assertEqual(
                (True, False, ()), (actions.change.hidden, actions.cancelled, actions.jobs)
            )
        gone = act(replace(SEEN, status="ABANDONED"), KNOWN)
        assert gone.change
        self.assertEqual((ChangeStatus.ABANDONED, True), (gone.change.status, gone.cancelled))

    def test_a_comment_on_an_unknown_change_makes_it_known(self) -> None:
        asked = replace(CREATED, kind=EventKind.COMMENT, comment="recheck coverage")
        self.assertEqual(1, len(act(asked).jobs))

    def test_the_branch_moved(self) -> None:
        moved = Event(
            kind=EventKind.REF_UPDATED,
            project="group/demo",
            branch="master",
            ref="refs/heads/master",
            commit=SHA,
        )
        self.assertEqual(JobKind.ADVANCE, act(moved).jobs[0].kind)
        self.assertEqual((), act(moved, branch="stable/1").jobs)


class OrderTest(TestCase):
    @given(st.permutations(range(1, 6)), st.data())
    def test_the_newest_patch_set_wins_in_any_order(self, numbers: list[int], data: Any) -> None:
        known: KnownChange | None = None
        queued: set[int] = set()
        for number in [*numbers, *data.draw(st.lists(st.integers(1, 5), max_size=4))]:
            actions = act(replace(CREATED, patch_set=number, commit=f"{number:040}"), known)
            known = actions.change or known
            if actions.superseded_below is not None:
                queued = {n for n in queued if n >= actions.superseded_below}
            queued |= {job.patch_set or 0 for job in actions.jobs}
        assert known
        self.assertEqual((5, {5}), (known.patch_set, queued))
