"""What a step says to its tracker over HTTP: order and baseline in, progress and bundle out.

Every request has a time limit; a server that is away or restarts is asked again for a while. The
token goes into one header and into no sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any
from urllib.parse import quote

import requests

from jobs.addresses import without_password
from jobs.order import LARGEST_ORDER, StepOrder, parse_order
from venv_builder.errors import InfrastructureError, RefusedError, UsageError

CONNECT_SECONDS, READ_SECONDS = 10.0, 300.0
PATIENCE = 120.0
FIRST_WAIT, LONGEST_WAIT = 1.0, 15.0
_PIECE = 2**20
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerLink:
    """One run on the tracker at `url`; it is asked again for `patience` seconds."""

    url: str
    run_id: str
    token: str = field(repr=False)
    patience: float = PATIENCE

    def order(self) -> StepOrder:
        """What is to be measured. Raises UsageError for a run that the tracker does not know."""
        answer = self._ask("GET", "")
        if len(answer.content) > LARGEST_ORDER:
            raise InfrastructureError(f"The order of run {self.run_id} is too large.")
        order = parse_order(answer.content, f"the order of run {self.run_id}")
        if order.run_id != self.run_id:
            raise InfrastructureError(f"The tracker sent an order of another run, {order.run_id}.")
        return order

    def baseline(self, target: Path, size: int) -> None:
        """Fetch the snapshot that the order rests on, of `size` bytes."""
        with self._ask("GET", "/baseline", stream=True) as answer, target.open("wb") as file:
            try:
                for piece in answer.iter_content(_PIECE):
                    size -= len(piece)
                    if size < 0:
                        break
                    file.write(piece)
            except requests.RequestException as error:
                raise self._away(error) from error
        if size:
            raise InfrastructureError(
                f"The baseline from {self._shown} is not as long as the order says.",
                advice="Start the build again.",
            )

    def send(self, bundle: Path) -> None:
        """Bring the bundle. Raises RefusedError where the tracker does not take it."""
        with bundle.open("rb") as file:
            self._ask("PUT", "/bundle", body=file)

    def tell(self, words: str) -> None:
        """Say where the step stands; that nobody hears it does not matter."""
        try:
            self._once("POST", "/progress", words.encode(), stream=False, seconds=CONNECT_SECONDS)
        except requests.RequestException:
            return

    @property
    def _shown(self) -> str:
        return without_password(self.url)

    def _ask(
        self, method: str, path: str, *, body: IO[bytes] | None = None, stream: bool = False
    ) -> requests.Response:
        deadline, wait = monotonic() + self.patience, FIRST_WAIT
        while True:
            try:
                if body is not None:
                    body.seek(0)
                answer = self._once(method, path, body, stream=stream, seconds=READ_SECONDS)
                if answer.status_code < 500:
                    return self._checked(answer)
                problem: Exception = requests.HTTPError(f"status {answer.status_code}")
            except _NO_ADDRESS as error:
                raise self._no_address() from error
            except requests.RequestException as error:
                problem = error
            if monotonic() + wait > deadline:
                raise self._away(problem) from problem
            sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def _once(
        self, method: str, path: str, body: Any, *, stream: bool, seconds: float
    ) -> requests.Response:
        return requests.request(
            method,
            f"{self.url.rstrip('/')}/api/steps/{quote(self.run_id, safe='')}{path}",
            data=body,
            auth=self._sign,
            stream=stream,
            timeout=(CONNECT_SECONDS, seconds),
            allow_redirects=False,
        )

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token in; as `auth`, since ~/.netrc would replace a mere header."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request

    def _checked(self, answer: requests.Response) -> requests.Response:
        if answer.status_code in (200, 204):
            return answer
        words = _words(answer)
        match answer.status_code:
            case 404:
                raise UsageError(
                    f"The tracker {self._shown} knows no run {self.run_id} with this token.",
                    advice="Check COVTRACK_TRACKER, COVTRACK_RUN_ID and COVTRACK_RUN_TOKEN.",
                )
            case 409:
                raise UsageError(
                    f"Run {self.run_id} has ended on the tracker: nobody waits for it."
                )
            case 413 | 422:
                raise RefusedError(f"The tracker does not take the bundle: {words}")
        raise InfrastructureError(
            f"The tracker {self._shown} answers {answer.status_code}: {words}"
        )

    def _no_address(self) -> UsageError:
        return UsageError(
            f"COVTRACK_TRACKER is no address: {self._shown[:200]}.",
            advice="It has to begin with http:// or https://.",
        )

    def _away(self, error: Exception) -> InfrastructureError:
        kind = type(error).__name__ if not isinstance(error, requests.HTTPError) else str(error)
        return InfrastructureError(
            f"The tracker {self._shown} does not answer ({kind}).",
            advice="Check that covtrack serve runs and can be reached from this agent.",
        )


def _words(answer: requests.Response) -> str:
    try:
        said = answer.json().get("error", "")
    except (ValueError, AttributeError):
        said = answer.text
    return " ".join(str(said).split())[:500]
