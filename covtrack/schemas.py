"""JSON Schemas of all that covtrack prints as JSON, and of the order that a step is given."""

from __future__ import annotations

from typing import Any

from covtrack.contract import PROJECTS, FilesReport, RunReport
from covtrack.next_results import Next
from covtrack.prospect_results import Prospect
from covtrack.replay_results import Replay
from jobs.order import StepOrder


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas by name: of what is printed, and `order`."""
    return {
        "run": RunReport.model_json_schema(),
        "projects": PROJECTS.json_schema(),
        "files": FilesReport.model_json_schema(),
        "replay": Replay.model_json_schema(),
        "prospect": Prospect.model_json_schema(),
        "next": Next.model_json_schema(),
        "order": StepOrder.model_json_schema(),
    }
