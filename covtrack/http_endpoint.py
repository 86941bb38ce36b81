"""The HTTP side of `covtrack serve`: webhooks in, health and jobs out as JSON.

What comes in is parsed, never trusted: a webhook only says that something happened, and what is
measured is fetched from the server itself.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware

from covtrack.gerrit.events import parse_event
from covtrack.gerrit.listener import ServerListener
from covtrack.gerrit.patch_sets import UnknownError
from covtrack.gerrit_endpoint import RERUN_HEADER, find_job, gerrit_routes, origins_of
from covtrack.settings import Settings
from covtrack.step_endpoint import step_routes
from covtrack.store import inbox, queueing
from covtrack.store.database import Database
from covtrack.store.queued import Job
from venv_builder.errors import CovtrackError, UsageError

LARGEST_BODY = 4 * 2**20
MOST_JOBS = 200


def create_app(
    settings: Settings,
    database: Database,
    listeners: Sequence[ServerListener],
    unfetched: Callable[[], Sequence[str]] = tuple,
) -> FastAPI:
    """The application; errors are JSON objects with one sentence under `error`.

    `unfetched` tells which projects cannot be fetched for the time being.
    """
    app = FastAPI(title="covtrack", docs_url=None, redoc_url=None, openapi_url=None)
    by_name = {listener.server.name: listener for listener in listeners}

    @app.post("/webhook/{server}/{secret}", status_code=204)
    async def receive(server: str, secret: str, request: Request) -> Response:
        listener = by_name.get(server)
        if listener is None or not is_secret(listener.server.webhook_secret, secret):
            raise HTTPException(404, "There is nothing here.")
        body = await read_body(request)
        await run_in_threadpool(take_webhook, listener, body)
        return Response(status_code=204)

    @app.get("/health")
    def health() -> JSONResponse:
        found = describe_health(database, listeners, unfetched())
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    @app.get("/api/jobs")
    def jobs() -> list[dict[str, Any]]:
        newest = database.read(lambda connection: queueing.newest_jobs(connection, MOST_JOBS))
        private = database.read(inbox.private_changes)
        return [describe_job(job) for job in newest if (job.server, job.change) not in private]

    @app.get("/api/jobs/{job_id}")
    def one_job(job_id: int) -> dict[str, Any]:
        return describe_job(find_job(database, job_id))

    app.include_router(gerrit_routes(settings, database))
    app.include_router(step_routes(settings, database))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins_of(settings),
        allow_methods=("GET", "POST"),
        allow_headers=(RERUN_HEADER,),
    )
    app.add_exception_handler(StarletteHTTPException, _tell)
    app.add_exception_handler(RequestValidationError, _tell_mistake)
    app.add_exception_handler(CovtrackError, _tell_error)
    return app


async def read_body(request: Request) -> bytes:
    """The request's body; 413 beyond LARGEST_BODY, however long it says it is."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"A webhook has at most {LARGEST_BODY} bytes.")
    return bytes(body)


def take_webhook(listener: ServerListener, body: bytes) -> None:
    """Have what a webhook tells confirmed, into the inbox; 400 for what is no JSON object."""
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "A webhook's body is an event as JSON.") from None
    if not isinstance(raw, dict):
        raise HTTPException(400, "A webhook's body is an event as JSON.")
    event = parse_event(raw)
    if event is not None:
        listener.check(event)


def is_secret(expected: str | None, given: str) -> bool:
    """Whether the secret part of the path is right; without one no webhook is taken."""
    return expected is not None and hmac.compare_digest(expected.encode(), given.encode())


def describe_health(
    database: Database, listeners: Sequence[ServerListener], unfetched: Sequence[str]
) -> dict[str, Any]:
    """`status` is "ok" if every server is listened to and every project can be fetched.

    And how many jobs are in which state.
    """
    counts: Mapping[str, int] = database.read(queueing.count_jobs)
    servers = {
        listener.server.name: {
            "connected": listener.connected,
            "caught_up_at": listener.caught_up_at.isoformat() if listener.caught_up_at else None,
        }
        for listener in listeners
    }
    well = all(listener.connected for listener in listeners) and not unfetched
    return {
        "status": "ok" if well else "degraded",
        "servers": servers,
        "not_fetched": list(unfetched),
        "jobs": dict(counts),
    }


def describe_job(job: Job) -> dict[str, Any]:
    """All that is known of a job; moments as ISO 8601 in UTC."""
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in asdict(job).items()
    }


def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code)


def _tell_mistake(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"{request.url.path} is no address here."}, status_code=400)


def _tell_error(request: Request, error: Exception) -> Response:
    status = (
        404 if isinstance(error, UnknownError) else 400 if isinstance(error, UsageError) else 503
    )
    return JSONResponse({"error": str(error)}, status_code=status)
