"""Counts the tests of a subunit stream on standard input: `N passed, N failed, N skipped`.

Names what was skipped and what failed, each failure with the end of its traceback, and ends with
status 1 if a test failed or none ran.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import subunit
from testtools import StreamToDict

LAST_LINES = 25


def ending(test: Any) -> str:
    """The last lines of the traceback of a failed test, indented."""
    detail = test["details"].get("traceback")
    lines = detail.as_text().rstrip().splitlines()[-LAST_LINES:] if detail else []
    return "".join(f"    {line}\n" for line in lines)


def main() -> int:
    counts: Counter[str] = Counter()
    failures: list[str] = []

    def count(test: Any) -> None:
        kind = {"success": "passed", "xfail": "passed", "skip": "skipped"}
        outcome = kind.get(test["status"], "failed")
        if test["status"] != "exists":
            counts[outcome] += 1
            if outcome == "skipped":
                sys.stdout.write(f"skipped: {test['id']}\n")
            if outcome == "failed":
                failures.append(f"failed: {test['id']}\n{ending(test)}")

    result = StreamToDict(count)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer).run(result)
    result.stopTestRun()
    sys.stdout.write("".join(failures))
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
