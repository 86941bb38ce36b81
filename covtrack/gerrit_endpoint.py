"""What Gerrit's own pages ask over HTTP: covered lines, checks, reruns, and the plugin itself.

A module of its own because all of it may be asked by browsers on other origins, while the rest of
the HTTP side is for machines. Lines are told in the protocol of Gerrit's code-coverage plugin.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from covtrack.dispatching import recheck
from covtrack.gerrit.checks import Measured, describe_check, name_check
from covtrack.gerrit.js_plugin import render_plugin
from covtrack.gerrit.line_coverage import MOST_KEPT, LineReader, mirror_of
from covtrack.gerrit.patch_sets import (
    LARGEST,
    PatchSet,
    UnknownError,
    find_patch_set,
    parse_address,
)
from covtrack.gerrit.policy import Decision, decide, parse_footers
from covtrack.gerrit.posting import read_gain
from covtrack.gerrit.verdict import FAILED
from covtrack.job_page import HEADERS, address_of, render_page
from covtrack.learning import settle
from covtrack.recall import recall_result
from covtrack.settings import Settings, TrackedProject
from covtrack.store.database import Database
from covtrack.store.inbox import private_changes
from covtrack.store.queued import Job
from covtrack.store.queueing import newest_jobs, read_job
from covtrack.store.values import StoredRun
from covtrack.tracking import Tracker
from jobs.file_lines import FileLines
from jobs.results import Counts, JobResult
from venv_builder.errors import UsageError
from venv_builder.progress import ignore

RERUN_HEADER = "X-Covtrack"  # a page of another site cannot send it without being allowed to
RERUN_WORD = "rerun"
MOST_OTHERS = 50


def origins_of(settings: Settings) -> list[str]:
    """The origins of the configured servers' pages, the only ones that may ask from a browser."""
    return sorted({_origin(urlsplit(server.url)) for server in settings.gerrit.values()})


def _origin(place: SplitResult) -> str:
    """As browsers write it: no account, no upper case, no port that goes without saying."""
    host = f"[{place.hostname}]" if ":" in (place.hostname or "") else place.hostname
    usual = {"http": 80, "https": 443}.get(place.scheme)
    port = f":{place.port}" if place.port not in (None, usual) else ""
    return f"{place.scheme.lower()}://{host}{port}"


def gerrit_routes(settings: Settings, database: Database) -> APIRouter:
    """The routes; they raise UnknownError for what is not known, UsageError for bad input."""
    router = APIRouter()
    tracker = Tracker(settings, database, ignore)
    lines, checks = LineReader(tracker), CheckReader(tracker)
    reruns = threading.Lock()

    def find(request: Request) -> PatchSet:
        return find_patch_set(settings, database, parse_address(request.query_params))

    @router.get("/coverage/api/coverage-data")
    def coverage_data(request: Request) -> dict[str, Any]:
        describe = find_style(request.query_params)
        return {"data": {"files": describe(lines.read(find(request)))}}

    @router.get("/api/patch-set")
    def patch_set(request: Request) -> dict[str, Any]:
        return checks.read(find(request))

    @router.post("/api/rerun")
    def rerun(request: Request) -> Response:
        check_intent(request, origins_of(settings))
        asked = find(request)
        if not asked.may_be_measured:
            raise HTTPException(409, "Only the newest patch set of an open change is measured.")
        with reruns:
            queued = recheck(database, asked.change, tuple(settings.projects.values()))
        message = "Queued." if queued else "It is being measured already."
        return JSONResponse({"queued": queued, "message": message}, 202 if queued else 200)

    @router.get("/jobs/{job_id}")
    def job_page(job_id: int) -> Response:
        job = find_job(database, job_id)
        change = partial(newest_jobs, limit=MOST_OTHERS, server=job.server, change=job.change)
        others = database.read(change) if job.change is not None else ()
        measured = checks.measured(job.project, job.commit or None, job)
        text = render_page(job, measured, others, settings.gerrit.get(job.server))
        return Response(text, media_type="text/html", headers=HEADERS)

    @router.get("/plugins/covtrack.js")
    def plugin(request: Request) -> Response:
        text = render_plugin(settings.url or str(request.base_url))
        return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    return router


def find_job(database: Database, job_id: int) -> Job:
    """The job of that id; UnknownError where there is none, or its change is private."""
    job = database.read(lambda c: read_job(c, job_id)) if 0 < job_id < LARGEST else None
    if job is None or (job.server, job.change) in database.read(private_changes):
        raise UnknownError(f"There is no job {job_id}.")
    return job


def check_intent(request: Request, origins: list[str]) -> None:
    """Refuse, with 403, what a form of any site could send."""
    origin = request.headers.get("origin")
    if request.headers.get(RERUN_HEADER) != RERUN_WORD:
        raise HTTPException(403, f"A rerun needs the header {RERUN_HEADER}: {RERUN_WORD}.")
    if origin is not None and origin not in origins:
        raise HTTPException(403, "Reruns are taken from the configured Gerrit servers' pages.")


class CheckReader:
    """Reads the checks of patch sets; of the last runs, what was decided is kept."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._kept: dict[int, tuple[JobResult, Decision]] = {}

    def read(self, patch_set: PatchSet) -> dict[str, Any]:
        """The patch set and a check for each project that measures it, as JSON."""
        alone = len(patch_set.projects) == 1
        return {
            "project": patch_set.change.project,
            "change": patch_set.change.change,
            "patch_set": patch_set.number,
            "current_patch_set": patch_set.change.patch_set,
            "checks": [
                self._check(patch_set, project, name_check(project.name, alone))
                for project in patch_set.projects
            ],
        }

    def _check(self, patch_set: PatchSet, project: TrackedProject, name: str) -> dict[str, Any]:
        jobs, place = patch_set.jobs_of(project.name), self.tracker.settings.url
        link = address_of(place, jobs[0].job_id) if place and jobs else None
        return describe_check(
            name=name,
            jobs=jobs,
            measured=self.measured(project.name, patch_set.commit, jobs[0] if jobs else None),
            review=project.review,
            link=link,
            may_rerun=patch_set.may_be_measured,
        )

    def measured(self, name: str, commit: str | None, job: Job | None) -> Measured | None:
        """What a project's newest run of a commit found, and what was decided; None without one.

        The gain is the job's.
        """
        project = self.tracker.settings.projects.get(name)
        run = self.tracker.database.find_run(name, commit) if commit else None
        if run is None or project is None:
            return None
        if run.run_id not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[run.run_id] = self._decide(project, run)
        result, decision = self._kept[run.run_id]
        gain = read_gain(job.gain if job else None)
        return Measured(result=result, decision=decision, gain=gain)

    def _decide(self, project: TrackedProject, run: StoredRun) -> tuple[JobResult, Decision]:
        """The run's result, of its tests the failed ones alone, and the decision on it."""
        footers = parse_footers(mirror_of(self.tracker, run).commit(run.commit).message)
        result = recall_result(self.tracker.database, run, self.tracker.settings.state)
        result, _ = settle(self.tracker, result)
        failed = tuple(one for one in result.outcomes if one.status in FAILED)
        return replace(result, outcomes=failed), decide(result, footers, project.review)


def find_style(query: Mapping[str, str]) -> Callable[[Iterable[FileLines]], list[Any]]:
    """How files are told, by the query's `type`; UsageError for what is no such way."""
    found = STYLES.get(query.get("type", "lines"))
    if found is None or query.get("format", "json") != "json":
        raise UsageError("coverage-data has type=lines or type=percentages, and format=json.")
    return found


def describe_lines(files: Iterable[FileLines]) -> list[Any]:
    """Every line of every statement; `count` is 1 if its statement ran, else 0."""
    return [
        {
            "path": file.path,
            "lines": [{"line": line, "count": int(ran)} for line, ran in file.lines.items()],
        }
        for file in files
    ]


def describe_percentages(files: Iterable[FileLines]) -> list[Any]:
    """Statements of each file that has any, and of the patch there: null where it has none.

    Null too where the patch's are unknown: the protocol has no other word for it.
    """
    return [
        {
            "path": file.path,
            "absolute_coverage": _describe_counts(file.counts),
            "incremental_coverage": _describe_counts(file.touched_counts),
        }
        for file in files
        if file.counts.statements
    ]


def _describe_counts(counts: Counts | None) -> dict[str, int] | None:
    if counts is None or not counts.statements:
        return None
    return {"covered": counts.covered, "total": counts.statements}


STYLES = {"lines": describe_lines, "percentages": describe_percentages}
