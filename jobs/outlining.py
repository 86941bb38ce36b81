"""Keeps outlines by blob, and answers what a whole tree's outlines say, file by file as asked."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any

from jobs.dependencies import Dependencies, find_dependencies
from jobs.outline import Import, Outline, read_imports, read_outline
from jobs.statements import StatementCache

# Raised whenever outlines gain or change a field or the meaning of a hash.
FORMAT = "6"


def outlines_key(version: Iterable[int]) -> str:
    """The key of outlines made by a Python of that version: each parses by its own grammar."""
    return f"outline {FORMAT} {'.'.join(map(str, version))}"


def keep_outlines(cache: StatementCache, key: str, outlines: Mapping[str, Any]) -> None:
    """Keep the outliner's raw entries by blob; the imports by themselves too."""
    cache.store(key, outlines)
    imports = {
        f"{blob} imports": {"imports": raw["imports"]} if raw else None
        for blob, raw in outlines.items()
    }
    cache.store(key, imports)


@lru_cache(maxsize=50_000)
def _imports_of(text: str) -> tuple[Import, ...]:
    """The imports of one file's entry: two trees share most of their files."""
    raw = json.loads(text)
    return read_imports(raw) if raw else ()


class OutlinedTree:
    """The outlines of one commit's Python files; those that the cache lacks are unknown."""

    def __init__(
        self, cache: StatementCache, key: str, blobs: Mapping[str, str], top_dirs: Iterable[str]
    ) -> None:
        self._cache = cache
        self._key = key
        self._top_dirs = tuple(top_dirs)
        self._outlines: dict[str, Outline | None] = {}
        self.blobs = {path: blob for path, blob in blobs.items() if path.endswith(".py")}

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        return self._cache.load_texts(self._key, self.blobs.values())

    @cached_property
    def dependencies(self) -> Dependencies:
        """Which file imports which."""
        blobs = {path: f"{blob} imports" for path, blob in self.blobs.items()}
        texts = self._cache.load_texts(self._key, blobs.values())
        return find_dependencies(
            {path: _imports_of(texts.get(blob, "null")) for path, blob in blobs.items()},
            self._top_dirs,
        )

    def outline(self, path: str) -> Outline | None:
        """One file's outline; None where there is no such file or Python cannot parse it."""
        if path not in self._outlines:
            blob = self.blobs.get(path, "")
            (text,) = self._cache.load_texts(self._key, [blob]).values() or ("null",)
            raw = json.loads(text)
            self._outlines[path] = read_outline(raw) if raw else None
        return self._outlines[path]

    def mentioning(self, words: Collection[str]) -> list[str]:
        """Paths of the files whose outline holds one of the words."""
        quoted = [json.dumps(word) for word in words]
        texts = self._texts
        return [
            path
            for path, blob in self.blobs.items()
            if any(word in texts.get(blob, "") for word in quoted)
        ]
