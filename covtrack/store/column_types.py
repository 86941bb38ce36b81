"""Column types that give back exactly what was put in, on SQLite and PostgreSQL alike.

PostgreSQL's text knows no NUL, neither database takes lone surrogates (paths that are not
UTF-8), SQLite drops time zones: each type here closes one of these gaps.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction

from coverage.numbits import numbits_to_nums, nums_to_numbits
from sqlalchemy import DateTime, Dialect, LargeBinary, Text
from sqlalchemy.types import TypeDecorator

ESCAPE = "\uf8fe"  # private use: no text of a project has it, and if one does it is doubled
_UNSAFE = re.compile("[\x00\ud800-\udfff\uf8fe]")
_ESCAPED = re.compile(f"{ESCAPE}({ESCAPE}|[0-9a-f]{{4}})")


def escape(text: str) -> str:
    """`text` with NUL, lone surrogates and the escape character itself made storable."""
    return _UNSAFE.sub(lambda m: ESCAPE + (ESCAPE if m[0] == ESCAPE else f"{ord(m[0]):04x}"), text)


def unescape(stored: str) -> str:
    """The text that `escape` was given."""
    return _ESCAPED.sub(lambda m: ESCAPE if m[1] == ESCAPE else chr(int(m[1], 16)), stored)


class ExactText(TypeDecorator[str]):
    """Any Python string."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape what the databases would refuse."""
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Undo the escapes."""
        return None if value is None else unescape(value)


class UtcTime(TypeDecorator[datetime]):
    """A moment: aware datetimes in, the same moments in UTC out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn to UTC; raises ValueError for a datetime without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back UTC, whatever the session's zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class LineSet(TypeDecorator[tuple[int, ...]]):
    """Sorted line numbers, as coverage.py's numbits: one bit per line up to the last."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Dialect) -> bytes | None:
        """Pack the lines."""
        return None if value is None else nums_to_numbits(value)

    def process_result_value(
        self, value: bytes | None, dialect: Dialect
    ) -> tuple[int, ...] | None:
        """Unpack the lines, in order."""
        return None if value is None else tuple(sorted(numbits_to_nums(value)))


class ExactFraction(TypeDecorator[Fraction]):
    """A fraction as text such as 4/5: nothing is rounded."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Fraction | None, dialect: Dialect) -> str | None:
        """Write numerator/denominator."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Fraction | None:
        """Read numerator/denominator; raises ValueError for anything else."""
        return None if value is None else Fraction(value)
