"""Posts verdicts: each once, on the patch set that it is about, whatever happens on the way.

An attempt is noted in the database before it is made; where it is not known whether Gerrit took
one, the change's messages are read before another is made: for 13 minutes, again and again, where
Gerrit was seen to take it and did not answer. A provisional verdict and the final one after it are
told apart by their tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from covtrack.gerrit.client import GerritClient
from covtrack.gerrit.dispatch import RECHECKED
from covtrack.gerrit.failures import Conflict, GerritError, NotFound, Refused, Unanswered
from covtrack.gerrit.line_comments import EarlierComment
from covtrack.gerrit.policy import decide, parse_footers
from covtrack.gerrit.settings import GerritServer
from covtrack.gerrit.values import ChangeInfo
from covtrack.gerrit.verdict import (
    OURS,
    PROVISIONAL_TAG,
    TAG,
    Gain,
    Material,
    Review,
    compose,
    read_template,
    render_failure,
)
from covtrack.job_page import address_of
from covtrack.learning import settle
from covtrack.recall import recall_result
from covtrack.reporting import describe_ledger
from covtrack.settings import Settings, TrackedProject
from covtrack.store import queueing
from covtrack.store.database import Database
from covtrack.store.ledgering import count_entries, read_entries
from covtrack.store.queued import ChangeStatus, Job, JobKind, JobState, VerdictState
from covtrack.store.values import LedgerCount, StoredRun
from covtrack.tracking import Tracker
from jobs.results import Counts, JobResult
from venv_builder.errors import UsageError, describe_error

MOST_NOT_FOUND = 6
# With the delays between them, more than an hour.
MOST_TRIES = 20
# So long a server may take over a post that it was seen to take, before it is looked for there.
UNSURE_SECONDS = 60.0
# So often it is looked for, 60 to 300 seconds apart, before it is taken for lost.
MOST_LOOKS = 7
NOT_SEEN = "Gerrit did not answer when it was sent, and does not show it yet."
FIRST_DELAY, LONGEST_DELAY = 5.0, 300.0


class Poster:
    """Posts the verdicts that are due on `server` (None: on all); `say` gets whole sentences.

    Each server has a poster of its own: one that is slow holds no other's verdicts up.
    """

    def __init__(
        self,
        tracker: Tracker,
        database: Database,
        say: Callable[[str], None],
        server: str | None = None,
        connect: Callable[[GerritServer], GerritClient] = GerritClient,
    ) -> None:
        self.tracker = tracker
        self.settings: Settings = tracker.settings
        self.database = database
        self.say = say
        self.server = server
        self._connect = connect
        self._clients: dict[str, GerritClient] = {}
        self._not_there: dict[int, int] = {}

    def step(self) -> int:
        """Post what is due; how many verdicts were looked at."""
        now = datetime.now(UTC)
        due = self.database.read(
            lambda connection: queueing.pending_verdicts(connection, now, server=self.server)
        )
        for job in due:
            self._try(job)
        return len(due)

    def _try(self, job: Job) -> None:
        """Post, or note why not: no job's verdict stands in the way of another's."""
        try:
            self._post(job)
        except NotFound as error:
            self._not_found(job, str(error))
        except GerritError as error:
            self._later(job, str(error))
        except Exception as error:  # of the next ones too nothing would be said
            self._failed(job, describe_error(error))

    def _post(self, job: Job) -> None:
        server = self.settings.gerrit.get(job.server)
        project = self.settings.projects.get(job.project)
        if server is None or project is None or job.change is None or not project.review.post:
            self._note(job, VerdictState.SILENT)
            return
        client = self._client(server)
        info = client.change(job.change)
        if info.sha != job.commit or info.status != ChangeStatus.OPEN.value:
            self._note(job, VerdictState.OBSOLETE)
            return
        if info.work_in_progress or info.private:  # once it is shown it is asked for again
            self._note(job, VerdictState.SILENT)
            return
        tag, final, known = self._tag(job), self._marked(TAG, job.project), self._known(job)
        posted = [self._tag(one) for one in known if one.verdict is VerdictState.POSTED]
        said = tag in posted or final in posted
        if (said and job.reason != RECHECKED) or (tag != final and _is_replaced(job, known)):
            self._note(job, VerdictState.SILENT)
            return
        composed = self._compose(job, project, client, info)
        review = replace(composed, tag=tag) if composed else None
        if review and review.votes:
            review = self._allowed(client, info, review)
        if review is None:
            self._note(job, VerdictState.SILENT)
        elif job.verdict_attempts and _count_tagged(client, job, tag) > posted.count(tag):
            self._note(job, VerdictState.POSTED)
        elif job.verdict is VerdictState.UNSURE and job.verdict_attempts < MOST_LOOKS:
            self._later(job, NOT_SEEN, UNSURE_SECONDS)
        else:
            self._send(job, client, review)

    def _allowed(self, client: GerritClient, info: ChangeInfo, review: Review) -> Review:
        """The review without votes that the account may not give: Gerrit ignores some silently."""
        allowed = client.labels_allowed(info.number)
        votes = {k: v for k, v in review.votes.items() if v in allowed.get(k, ())}
        if refused := sorted(review.votes.keys() - votes.keys()):
            self.say(
                f"No vote on {', '.join(refused)} for change {info.number} of {info.project}: "
                "covtrack doctor tells what is missing."
            )
        return replace(review, votes=votes)

    def _send(self, job: Job, client: GerritClient, review: Review) -> None:
        """Post, and note what came of it; a kill on the way is as no answer."""
        attempts = {"verdict_attempts": job.verdict_attempts + 1}
        self._put(job, attempts | {"verdict_not_before": _seconds_from_now(UNSURE_SECONDS)})
        try:
            self._note(job, VerdictState.POSTED, self._deliver(job, client, review))
        except Unanswered as error:
            self._put(job, {"verdict": VerdictState.UNSURE.value})
            self._later(replace(job, verdict_attempts=0), str(error), UNSURE_SECONDS)
        except (Refused, Conflict) as error:
            self._note(job, VerdictState.REFUSED, str(error))

    def _deliver(self, job: Job, client: GerritClient, review: Review) -> str:
        """Post the review, else less of it; why not all of it. Raises GerritError.

        Of a merge Gerrit takes no comment on files that it does not show, but a vote.
        """
        assert job.change is not None
        why = ""
        for less, left_out in _less_and_less(review):
            if left_out:
                self.say(f"{why} Tried again without {left_out}.")
            try:
                client.post_review(job.change, job.commit, less.body())
                return why
            except Refused as error:
                why, refusal = str(error), error
        raise refusal

    def _compose(
        self, job: Job, project: TrackedProject, client: GerritClient, info: ChangeInfo
    ) -> Review | None:
        place = self.settings.url
        link = address_of(place, job.job_id) if place else None
        run = self._run(job)
        if run is None:
            rest = job.kind is JobKind.REST
            words = job.error or "The job failed."
            name = self._name_among_others(project.name)
            return render_failure(words, "", link, rest=rest, name=name)
        result = recall_result(self.database, run, self.settings.state)
        result, wavering = settle(self.tracker, result)
        decision = decide(result, parse_footers(info.message), project.review)
        earlier = tuple(
            EarlierComment(path=one.path, line=one.last_line, message=one.message)
            for one in client.comments(info.number)
            if (one.tag or "").startswith(OURS)
        )
        provisional = self._marked(PROVISIONAL_TAG, project.name)
        material = Material(
            result=result,
            decision=decision,
            prospect=read_gain(job.gain),
            touched=self._touched(result),
            earlier=earlier,
            link=link,
            patch_set=job.patch_set or 0,
            wavering=wavering,
            ledger=describe_ledger(self._count(job.project)),
            replaces=job.kind is JobKind.REST and _count_tagged(client, job, provisional) > 0,
            name=self._name_among_others(project.name),
        )
        return self._worded(material, project)

    def _worded(self, material: Material, project: TrackedProject) -> Review | None:
        """The review in the words of the project's template, in the usual ones if it is broken."""
        try:
            return compose(material, project.review, read_template(project.review))
        except UsageError as error:
            self.say(f"{project.name}: {error} Till then the usual words are taken.")
            return compose(material, project.review)

    def _count(self, project: str) -> LedgerCount | None:
        return self.database.read(
            lambda connection: count_entries(read_entries(connection, project))
        )

    def _touched(self, result: JobResult) -> Mapping[str, frozenset[int]] | None:
        """Lines that the change adds or modifies, by path; None where git shows none."""
        if result.patch is None:
            return None
        diff = self.tracker.mirror(result.project).diff(result.patch.parent, result.commit)
        return {path: file.lines.added for path, file in diff.by_new.items() if file.lines}

    def _client(self, server: GerritServer) -> GerritClient:
        if server.name not in self._clients:
            self._clients[server.name] = self._connect(server)
        return self._clients[server.name]

    def _known(self, job: Job) -> tuple[Job, ...]:
        """The newest jobs of this patch set in its project."""
        found = self.database.read(
            lambda connection: queueing.newest_jobs(
                connection, 200, server=job.server, change=job.change, patch_set=job.patch_set
            )
        )
        return tuple(one for one in found if one.project == job.project)

    def _run(self, job: Job) -> StoredRun | None:
        """What the job's verdict is about; None where it failed."""
        if job.state is JobState.FAILED:
            return None
        run = None if job.run_id is None else self.database.run_of(job.run_id)
        return run or self.database.find_run(job.project, job.commit)

    def _tag(self, job: Job) -> str:
        """What marks the job's verdict on the change."""
        run = self._run(job)
        return self._marked(PROVISIONAL_TAG if run and run.provisional else TAG, job.project)

    def _marked(self, tag: str, project: str) -> str:
        """The tag, with the project's name where others measure the same changes."""
        name = self._name_among_others(project)
        return f"{tag}~{name}" if name else tag

    def _name_among_others(self, project: str) -> str:
        """The project's name where others measure the same changes, else empty."""
        return project if self.settings.measures_with_others(project) else ""

    def _failed(self, job: Job, sentence: str) -> None:
        """A fault on our side: it may pass, such as a database that another process holds."""
        if job.verdict_attempts < MOST_TRIES:
            self._later(job, sentence)
        else:
            self._note(job, VerdictState.REFUSED, sentence)

    def _not_found(self, job: Job, sentence: str) -> None:
        """A server that crashed may have lost its index of the newest changes for a while."""
        self._not_there[job.job_id] = self._not_there.get(job.job_id, 0) + 1
        if self._not_there[job.job_id] < MOST_NOT_FOUND:
            self._later(job, sentence)
        else:
            self._note(job, VerdictState.OBSOLETE, sentence)

    def _later(self, job: Job, sentence: str, least: float = 0.0) -> None:
        attempts = min(job.verdict_attempts + 1, 20)
        delay = max(least, min(FIRST_DELAY * 2 ** (attempts - 1), LONGEST_DELAY))
        self._put(
            job,
            {
                "verdict_not_before": _seconds_from_now(delay),
                "verdict_error": sentence[:2000],
                "verdict_attempts": attempts,
            },
        )
        self.say(f"The verdict of job {job.job_id} waits {delay:.0f} s: {sentence}")

    def _note(self, job: Job, state: VerdictState, sentence: str = "") -> None:
        self._put(job, {"verdict": state.value, "verdict_error": sentence[:2000]})
        why = f": {sentence}" if sentence else "."
        self.say(f"The verdict on change {job.change},{job.patch_set} is {state.value}{why}")

    def _put(self, job: Job, values: Mapping[str, Any]) -> None:
        self.database.write(lambda connection: queueing.put_values(connection, job.job_id, values))


def _seconds_from_now(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def read_gain(stored: Mapping[str, Any] | None) -> Gain | None:
    """The prospective gain as a job's row keeps it; None where it is unknown."""
    if not stored or stored.get("own") is None:
        return None
    return Gain(
        before=Counts(**stored["before"]),
        after=Counts(**stored["after"]),
        own=stored["own"],
        open_changes=stored["open_changes"],
    )


def _is_replaced(job: Job, known: Sequence[Job]) -> bool:
    """Whether the rest after the job is measured: its verdict is the one that counts."""
    rests = [one for one in known if one.kind is JobKind.REST]
    return any(one.job_id > job.job_id and one.state is JobState.DONE for one in rests)


def _count_tagged(client: GerritClient, job: Job, tag: str) -> int:
    """How many of the messages on the patch set are covtrack's verdicts of that tag."""
    assert job.change is not None
    return sum(
        message.tag == tag and message.revision_number == job.patch_set
        for message in client.messages(job.change)
    )


def _less_and_less(review: Review) -> Iterator[tuple[Review, str]]:
    """The review, then less of it, each with what is left out, in words."""
    yield review, ""
    if review.comments and review.votes:
        yield replace(review, comments={}), "comments"
    if review.comments or review.votes:
        yield replace(review, comments={}, votes={}), "comments and votes"
