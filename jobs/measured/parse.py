"""Parses source files as this interpreter's coverage.py does: `parse.py PLAN.json`

PLAN.json: {"root", "result", "known": [paths not to parse] or null, "source": [...],
"branch": bool or null, "outline": [paths], "only": [paths] or null}. With "known" null nothing
is parsed, but outlined; with "only" just these are, and what counts is not looked for.
Result (JSON): {"always": [paths], "if_run": [paths], "branch": bool, "files": {path:
{"statements": [...], "excluded": [...], "first": {line: first line of its statement},
"functions": [[name, first, last, body]], "arcs": [[from, to]], "exits": {line: n},
"no_branch": [...], "jumps": [[from, to, where it really goes]]} or {"error": text}},
"outlines": {path: what outline.py makes of it, null where that is impossible}}

A full run reports on the files of "always", and on those of "if_run" of which a line ran.
"""

from __future__ import annotations

import ast
import json
import os
import runpy
import sys
from collections.abc import Iterable
from typing import Any

import coverage
from coverage.python import PythonFileReporter

HERE = os.path.dirname(os.path.abspath(__file__))


def functions_of(source: str) -> list[list[Any]]:
    """[qualified name, def line, last line, body's first line] of each function."""
    found: list[list[Any]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = prefix + child.name
                first = child.body[0]
                lines = [first.lineno, *(d.lineno for d in getattr(first, "decorator_list", ()))]
                found.append([name, child.lineno, child.end_lineno, min(lines)])
                visit(child, name + ".")
            elif isinstance(child, ast.ClassDef):
                visit(child, prefix + child.name + ".")
            else:
                visit(child, prefix)

    visit(ast.parse(source), "")
    return found


def jumps_of(source: str, reporter: PythonFileReporter, first: dict[int, int]) -> list[list[int]]:
    """Arcs recorded from a `with` body back to its `with`, and the line that really comes next.

    The interpreter leaves a block through its first line; coverage.py says where it went on.
    """
    jumps = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.With, ast.AsyncWith)):
            continue
        start = node.lineno
        for line in range(start, (node.end_lineno or start) + 1):
            for _, end in reporter.translate_arcs([(line, start)]):
                if end != first.get(start, start):
                    jumps.append([line, start, end])
    return jumps


def parse_file(path: str, cov: coverage.Coverage) -> dict[str, Any]:
    reporter = PythonFileReporter(path, cov)
    source = reporter.source()
    statements = reporter.lines()
    first = {}
    for line in range(1, source.count("\n") + 2):
        translated = reporter.translate_lines([line])
        if translated and translated != {line}:
            first[line] = min(translated)
    parsed: dict[str, Any] = {
        "statements": sorted(statements),
        "excluded": sorted(reporter.excluded_lines()),
        "first": first,
        "functions": functions_of(source),
    }
    if cov.get_option("run:branch"):
        parsed["arcs"] = sorted(reporter.arcs())
        parsed["exits"] = reporter.exit_counts()
        parsed["no_branch"] = sorted(reporter.no_branch_lines())
        parsed["jumps"] = jumps_of(source, reporter, first)
    return parsed


def parse_files(paths: Iterable[str], cov: coverage.Coverage) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for path in paths:
        try:
            parsed[path] = parse_file(path, cov)
        except (coverage.CoverageException, SyntaxError, ValueError, RecursionError) as error:
            parsed[path] = {"error": str(error).splitlines()[0]}
    return parsed


def parse_tree(plan: dict[str, Any]) -> dict[str, Any]:
    recorder = runpy.run_path(os.path.join(HERE, "recorder.py"))
    sys.path[0] = plan["root"]
    cov = recorder["configure"](None, plan["source"], plan["branch"])
    if plan["only"] is not None:
        return {"files": parse_files(plan["only"], cov)}
    always, if_run = recorder["measured_files"](cov, plan["root"])
    wanted = {*always, *if_run} - set(plan["known"])
    return {
        "always": always,
        "if_run": if_run,
        "branch": bool(cov.get_option("run:branch")),
        "files": parse_files(sorted(wanted), cov),
    }


def outline_files(root: str, paths: Iterable[str]) -> dict[str, Any]:
    outline = runpy.run_path(os.path.join(HERE, "outline.py"))["outline"]
    found = {}
    for path in paths:
        with open(os.path.join(root, path), "rb") as file:
            found[path] = outline(file.read())
    return found


def main() -> None:
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    result = {"outlines": outline_files(plan["root"], plan["outline"])}
    if plan["known"] is not None:
        result.update(parse_tree(plan))
    with open(plan["result"], "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    os.environ.setdefault("COVERAGE_CORE", "ctrace")
    main()
