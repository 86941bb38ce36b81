"""What a step on another machine asks `covtrack serve` for: its order, its baseline; and brings.

Each request carries the token of one run, which reads one order and brings one bundle. A wrong
token learns nothing, not even whether there is such a run.
"""

from __future__ import annotations

import hmac
import shutil
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from covtrack.grids import clean
from covtrack.ingest import EndedError, incoming, store_bundle
from covtrack.ordering import token_digest
from covtrack.settings import Settings
from covtrack.store import building, queueing
from covtrack.store.database import Database
from covtrack.store.queued import Build
from covtrack.tracking import Tracker
from jobs.bundle import LARGEST_BUNDLE
from venv_builder.errors import RefusedError
from venv_builder.progress import ignore

LONGEST_RUN_ID = 100
LONGEST_PROGRESS = 1000
_ENDED = "The run has ended."


def step_routes(settings: Settings, database: Database) -> APIRouter:
    """The routes below /api/steps; what a killed server left half received is removed."""
    routes = APIRouter(prefix="/api/steps/{run_id}")
    tracker = Tracker(settings, database, ignore)
    shutil.rmtree(incoming(settings), ignore_errors=True)

    @routes.get("")
    def order(run_id: str, authorization: Annotated[str, Header()] = "") -> Any:
        return under_way(known_build(database, run_id, authorization)).order

    @routes.get("/baseline")
    def baseline(run_id: str, authorization: Annotated[str, Header()] = "") -> Response:
        build = under_way(known_build(database, run_id, authorization))
        path = None if build.baseline is None else settings.state / build.baseline
        if path is None or not path.is_file():
            raise HTTPException(404, "The run rests on no baseline.")
        return FileResponse(path, media_type="application/vnd.sqlite3")

    @routes.put("/bundle", status_code=204)
    async def take(
        run_id: str, request: Request, authorization: Annotated[str, Header()] = ""
    ) -> Response:
        build = await run_in_threadpool(known_build, database, run_id, authorization)
        under_way(build)
        path = await receive(request, incoming(settings))
        try:
            await run_in_threadpool(store_bundle, tracker, build, path)
        except RefusedError as error:
            raise HTTPException(422, str(error)) from error
        except EndedError as error:
            raise HTTPException(409, str(error)) from error
        finally:
            path.unlink(missing_ok=True)
        return Response(status_code=204)

    @routes.post("/progress", status_code=204)
    async def progress(
        run_id: str, request: Request, authorization: Annotated[str, Header()] = ""
    ) -> Response:
        build = await run_in_threadpool(known_build, database, run_id, authorization)
        under_way(build)
        words = await _read_line(request)
        values = {"progress": words}
        await run_in_threadpool(
            database.write, lambda c: queueing.put_values(c, build.job_id, values)
        )
        return Response(status_code=204)

    return routes


def known_build(database: Database, run_id: str, authorization: str) -> Build:
    """The build whose token the request carries; 404 else."""
    found = None
    if len(run_id) <= LONGEST_RUN_ID:
        found = database.read(lambda connection: building.read_build(connection, run_id))
    scheme, _, token = authorization.partition(" ")
    expected = found.token_sha256 if found else "0" * 64
    same = hmac.compare_digest(token_digest(token.strip()), expected)
    if found is None or not same or scheme.lower() != "bearer":
        raise HTTPException(404, "There is nothing here.")
    return found


def under_way(build: Build) -> Build:
    """The build, if anything is still wanted of it; 409 else."""
    if not build.is_under_way:
        raise HTTPException(409, _ENDED)
    return build


async def receive(request: Request, folder: Path) -> Path:
    """Write the request's body to a new file of the folder; 413 beyond LARGEST_BUNDLE."""
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said[:20]) > LARGEST_BUNDLE:
        raise HTTPException(413, f"A bundle has at most {LARGEST_BUNDLE} bytes.")
    folder.mkdir(parents=True, exist_ok=True)
    size = 0
    with NamedTemporaryFile(dir=folder, prefix="upload-", delete=False) as file:
        path = Path(file.name)
        try:
            async for part in request.stream():
                size += len(part)
                if size > LARGEST_BUNDLE:
                    raise HTTPException(413, f"A bundle has at most {LARGEST_BUNDLE} bytes.")
                file.write(part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


async def _read_line(request: Request) -> str:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_PROGRESS:
            raise HTTPException(413, f"A line of progress has at most {LONGEST_PROGRESS} bytes.")
    return clean(bytes(body).decode("utf-8", "replace"))[:200]
