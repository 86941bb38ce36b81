"""Whether a change keeps its project's rules on coverage, and how to vote on it. Pure.

A vote against a change needs proof that the change itself breaks a rule. Where coverage may be
missing for other reasons, there is no vote. Deleted code is never held against a change: not
covered statements are compared that became uncovered, but those that are uncovered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from covtrack.gerrit.settings import ReviewSettings
from covtrack.grids import clean
from covtrack.terminal import floor_percent, format_share
from jobs.results import Counts, FaultKind, JobResult, PatchCoverage, Provisional, Select

KEYS = {key.lower(): key for key in ("Coverage-Exempt", "Low-Coverage-Reason")}
NOT_ITS_DOING = frozenset({FaultKind.ENVIRONMENT, FaultKind.COMPANY})
LONGEST_REASON = 200
MOST_FOOTERS = 3
_TRAILER = re.compile(r"([A-Za-z0-9-]+)[ \t]*:(.*)", re.DOTALL)
_CHERRY_PICKED = "(cherry picked from commit "
_TOOLS = (_CHERRY_PICKED, "Signed-off-by:", "Change-Id:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """A footer of a commit message that asks for an exemption, and the reason that it gives.

    `key` is one of KEYS' values; `reason` is one clean line, never empty.
    """

    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The vote on a change and why: 1, -1, or None where nothing can be said.

    `passed` is False only where a rule is proven broken and no footer exempts the change.
    """

    vote: int | None
    passed: bool
    sentences: tuple[str, ...] = ()


def parse_footers(commit_message: str) -> tuple[Footer, ...]:
    """The exemptions that the trailers ask for, in their order; one without a reason is none.

    Trailers are those of git-interpret-trailers(1): the last paragraph, not the first, of which
    every line is one, or a quarter if a tool's line is among them. Lines that begin with a blank
    go on with the line before.
    """
    lines = _last_paragraph(commit_message)
    found = [match for line in lines if (match := _TRAILER.fullmatch(line))]
    others = len(lines) - len(found) - sum(line.startswith(_CHERRY_PICKED) for line in lines)
    by_tool = any(line.startswith(_TOOLS) for line in lines)
    if others and not (by_tool and 3 * len(found) >= others):
        return ()
    asked = ((KEYS.get(match[1].lower()), clean(match[2])) for match in found)
    return tuple(Footer(key=key, reason=reason) for key, reason in asked if key and reason)


def _last_paragraph(message: str) -> list[str]:
    """Its lines, continued ones joined; none where the message is one paragraph."""
    lines = message.strip().replace("\r\n", "\n").split("\n")
    blank = [number for number, line in enumerate(lines) if not line.strip()]
    if not blank:
        return []
    return re.sub(r"\n[ \t]+", " ", "\n".join(lines[blank[-1] + 1 :])).split("\n")


def decide(result: JobResult, footers: Sequence[Footer], settings: ReviewSettings) -> Decision:
    """The decision on a change's result under its project's rules.

    No vote on a provisional or incomplete result or an unknown patch, and none against a change
    whose tests met environment or company faults: what these hid could only raise the figures.
    """
    if result.provisional is not None:
        return _undecided("not all that the change asks for has run yet")
    if not result.complete:
        return _undecided("not all tests could run, so coverage may be missing")
    if result.patch is None:
        return _undecided("patch coverage is unknown")
    broken = _broken_rules(result, result.patch, settings)
    if not broken:
        sentences = _leniency(result.patch, settings)
        return Decision(vote=1, passed=True, sentences=sentences)
    if any(fault.kind in NOT_ITS_DOING for fault in result.faults):
        return _undecided("faults that are not held against the change may hide coverage")
    exempt = bool(footers)
    sentences = (*broken, *_exemptions(footers))
    return Decision(vote=1 if exempt else -1, passed=exempt, sentences=sentences)


def _undecided(why: str) -> Decision:
    return Decision(vote=None, passed=True, sentences=(f"No verdict: {why}.",))


def _broken_rules(
    result: JobResult, patch: PatchCoverage, settings: ReviewSettings
) -> tuple[str, ...]:
    """A sentence for each rule that the change is proven to break."""
    rules = (_judge_patch(patch, settings), _judge_rest(result, patch, settings))
    return tuple(sentence for sentence in rules if sentence)


def _judge_patch(patch: PatchCoverage, settings: ReviewSettings) -> str | None:
    if patch.statements <= settings.small or not _is_below(patch, settings):
        return None
    counts = _counts(patch)
    lacking = counts.to_target(settings.patch_threshold / 100)
    return (
        f"Patch coverage is below {_threshold(settings)}: {count(lacking, 'more statement')} "
        "of the patch would have to run."
    )


def _judge_rest(result: JobResult, patch: PatchCoverage, settings: ReviewSettings) -> str | None:
    lost = count_lost(result, patch)
    if lost is None or lost <= settings.allowed_drop:
        return None
    allowed = f"; {settings.allowed_drop} may" if settings.allowed_drop else ""
    return f"Outside the patch, {count(lost, 'statement')} ran before and no longer do{allowed}."


def count_lost(result: JobResult, patch: PatchCoverage) -> int | None:
    """How many statements outside the patch became uncovered, at least; None is unknown.

    Uncovered statements now, less those before and the patch's own. Statements that are counted
    now without being of the patch (other coverage settings) may not have run before either, so
    they are taken off too. Unknown where the counts before are not the parent's, or where tests
    that the change reaches were left out.
    """
    if result.before is None or result.base != patch.parent or result.select is Select.CHANGED:
        return None
    now, before = result.measurement.total, result.before.total
    own = patch.statements - patch.covered
    foreign = max(0, now.statements - before.statements - patch.statements)
    lost = (now.statements - now.covered) - (before.statements - before.covered) - own - foreign
    return max(0, lost)


def _leniency(patch: PatchCoverage, settings: ReviewSettings) -> tuple[str, ...]:
    """Says why a patch below the threshold is let pass: it is small."""
    if not patch.statements or not _is_below(patch, settings):
        return ()
    return (
        f"{_threshold(settings)} is not asked of patches of at most "
        f"{count(settings.small, 'statement')}.",
    )


def _exemptions(footers: Sequence[Footer]) -> tuple[str, ...]:
    """Who asked for the exemption and why: the first footers, word for word."""
    told = [f"{footer.key}: {footer.reason[:LONGEST_REASON]}" for footer in footers[:MOST_FOOTERS]]
    if len(footers) > MOST_FOOTERS:
        told.append(f"{len(footers) - MOST_FOOTERS} more")
    return (f"Let pass as the commit message asks. {'; '.join(told)}",) if told else ()


def _is_below(patch: PatchCoverage, settings: ReviewSettings) -> bool:
    share = _counts(patch).share
    return share is not None and share * 100 < settings.patch_threshold


def _counts(patch: PatchCoverage) -> Counts:
    return Counts(statements=patch.statements, covered=patch.covered)


def _threshold(settings: ReviewSettings) -> str:
    return f"{floor_percent(settings.patch_threshold / 100):g} %"


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it needs one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def describe_patch(result: JobResult) -> str:
    """The patch's coverage in words; where it is unknown, the note that says why."""
    patch = result.patch
    if patch is None:
        notes = (note for note in result.notes if note.startswith("Patch coverage is unknown"))
        why = next(notes, "").partition(": ")[2].rstrip(".")
        return f"unknown ({clean(why)})" if why else "unknown"
    if not patch.statements:
        return "no statements of own code"
    figures = f"{format_share(_counts(patch))}, {patch.covered} of {patch.statements} statements"
    if result.provisional is None or not patch.uncovered:
        return figures
    return f"at least {figures}; {count_undecided(patch, result.provisional)} undecided"


def count_undecided(patch: PatchCoverage, open_: Provisional) -> int:
    """How many of the patch's own statements are undecided."""
    return sum(
        part.first <= line <= part.last
        for part in patch.uncovered
        for line in open_.undecided.get(part.path, ())
    )


def describe_provisional(open_: Provisional) -> str:
    """A sentence on what is open in a provisional result."""
    lines = open_.lines_undecided
    return (
        f"Provisional: {open_.tests_run} of {count(open_.tests_affected, 'affected test')} ran, "
        f"{count(lines, 'statement')} {'is' if lines == 1 else 'are'} undecided; the rest is "
        "queued."
    )
