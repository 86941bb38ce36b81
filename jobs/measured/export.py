"""Writes a snapshot by coverage.py's own writers: `export.py PLAN.json`, run in the root.

PLAN.json: {"data": snapshot copy, "format": "xml" | "lcov" | "html", "output": path,
"config": path of the project's coverage settings or null}
"""

from __future__ import annotations

import json
import sys
from typing import Any

import coverage


def main() -> None:
    with open(sys.argv[1]) as file:
        plan: dict[str, Any] = json.load(file)
    cov = coverage.Coverage(data_file=plan["data"], messages=False)
    cov.set_option("run:relative_files", True)
    # Without source roots every writer names files from the project's root.
    cov.set_option("run:source", None)
    cov.load()
    write = {
        "xml": lambda: cov.xml_report(outfile=plan["output"], ignore_errors=True),
        "lcov": lambda: cov.lcov_report(outfile=plan["output"], ignore_errors=True),
        "html": lambda: cov.html_report(directory=plan["output"], ignore_errors=True),
    }
    write[plan["format"]]()


if __name__ == "__main__":
    main()
