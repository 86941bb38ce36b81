"""Keeps outlines by blob, and answers what a whole tree's outlines say, file by file as asked."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from jobs.comparison import FileDifference
from jobs.dependencies import Dependencies, change_dependencies, find_dependencies
from jobs.outline import Import, Outline, read_imports, read_outline
from jobs.readers import Readers
from jobs.statements import StatementCache

# Raised whenever outlines gain or change a field or the meaning of a hash.
FORMAT = "6"
# A string of JSON that is none of the hashes (jobs/measured/outline.py).
TOKEN = re.compile(r'"(?![0-9a-f]{16}")((?:[^"\\]|\\.)*)"|"[0-9a-f]{16}"')
# So many words are quicker looked for than all are indexed.
FEW = 20
HASH = re.compile(r"[0-9a-f]{16}")


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


class Shelf:
    """The outlines of all blobs that some trees hold: each is read once.

    Words are looked for in the texts; where many are asked for, an index of them is made. A word
    is a whole string of an outline's JSON; hashes are in no index.
    """

    def __init__(self, cache: StatementCache, key: str) -> None:
        self._cache = cache
        self._key = key
        self._texts: dict[str, str] = {}
        self._imports: dict[str, tuple[Import, ...]] = {}
        self._outlines: dict[str, Outline | None] = {}
        self._asked: dict[str, list[str]] = {}
        self._by_word: dict[str, list[str]] = {}

    def outline(self, blob: str) -> Outline | None:
        """The outline of a blob; None where it is not known or Python cannot parse it."""
        if blob not in self._outlines:
            text = self._texts.get(blob) or self._load([blob]).get(blob)
            raw = json.loads(text) if text else None
            self._outlines[blob] = read_outline(raw) if raw else None
        return self._outlines[blob]

    def imports(self, blobs: Collection[str]) -> Mapping[str, tuple[Import, ...]]:
        """The imports of blobs; none of those that are not known."""
        new = [f"{blob} imports" for blob in blobs if blob not in self._imports]
        texts = self._load(new) if new else {}
        for name in new:
            raw = json.loads(texts.get(name, "null"))
            self._imports[name.removesuffix(" imports")] = read_imports(raw) if raw else ()
        return self._imports

    def know(self, blobs: Collection[str]) -> None:
        """Have the texts of these blobs at hand."""
        new = [blob for blob in blobs if blob not in self._texts]
        if new:
            texts = self._load(new)
            self._texts |= {blob: texts.get(blob, "") for blob in new}
            self._asked.clear()
            if self._by_word:
                self._index(new)

    def mentioning(self, word: str) -> Collection[str]:
        """Those of the known blobs that hold the word."""
        if word in self._asked:
            return self._asked[word]
        quoted = json.dumps(word)
        if HASH.fullmatch(word) or not (self._by_word or len(self._asked) == FEW):
            found = [blob for blob, text in self._texts.items() if quoted in text]
            return self._asked.setdefault(word, found)
        if not self._by_word:
            self._index(self._texts)
        return self._by_word.get(quoted[1:-1], ())

    def _index(self, blobs: Iterable[str]) -> None:
        for blob in blobs:
            for word in set(TOKEN.findall(self._texts[blob])):
                self._by_word.setdefault(word, []).append(blob)

    def _load(self, blobs: Iterable[str]) -> dict[str, str]:
        return self._cache.load_texts(self._key, blobs)


class OutlinedTree:
    """The outlines of one commit's Python files; those that the cache lacks are unknown.

    `near` is the tree of another commit that differs in few files. `compared` keeps what changes
    of files (old path and blob, new path and blob) to this tree mean.
    """

    def __init__(
        self,
        shelf: Shelf,
        blobs: Mapping[str, str],
        top_dirs: Iterable[str],
        near: OutlinedTree | None = None,
    ) -> None:
        self._near = near
        self.compared: dict[tuple[str | None, ...], FileDifference] = {}
        self._shelf = shelf
        self._top_dirs = tuple(top_dirs)
        self.blobs = {path: blob for path, blob in blobs.items() if path.endswith(".py")}

    @cached_property
    def _paths(self) -> Mapping[str, Sequence[str]]:
        """The paths of each blob."""
        self._shelf.know(self.blobs.values())
        found: dict[str, list[str]] = {}
        for path, blob in self.blobs.items():
            found.setdefault(blob, []).append(path)
        return found

    @cached_property
    def dependencies(self) -> Dependencies:
        """Which file imports which."""
        found = self._near_dependencies()
        if found is not None:
            return found
        imports = self._shelf.imports(self.blobs.values())
        return find_dependencies(
            {path: imports[blob] for path, blob in self.blobs.items()}, self._top_dirs
        )

    def _near_dependencies(self) -> Dependencies | None:
        """The import graph as it differs from the near tree's; None where that does not tell."""
        if self._near is None or self._near._top_dirs != self._top_dirs:
            return None
        near, before = self._near.dependencies, self._near.blobs
        other = {path: blob for path, blob in self.blobs.items() if before.get(path) != blob}
        imports = self._shelf.imports(other.values())
        changed = {
            path: imports[blob]
            for path, blob in other.items()
            if path not in before or imports[blob] != imports[before[path]]
        }
        return change_dependencies(
            near, changed, before.keys() - self.blobs.keys(), self._top_dirs
        )

    @cached_property
    def readers(self) -> Readers:
        """Who uses which words in the tree."""
        if self._near is None:
            return Readers(outline=self.outline, mentioning=self.mentioning)
        before = self._near.blobs
        gone = before.keys() - self.blobs.keys()
        other = (path for path, blob in self.blobs.items() if before.get(path) != blob)
        return Readers(
            outline=self.outline,
            mentioning=self.mentioning,
            near=self._near.readers,
            differ=frozenset(gone.union(other)),
        )

    def outline(self, path: str) -> Outline | None:
        """One file's outline; None where there is no such file or Python cannot parse it."""
        return self._shelf.outline(self.blobs[path]) if path in self.blobs else None

    def mentioning(self, words: Collection[str]) -> list[str]:
        """Paths of the files whose outline holds one of the words."""
        paths = self._paths
        blobs = {blob for word in words for blob in self._shelf.mentioning(word)}
        return [path for blob in blobs for path in paths.get(blob, ())]
