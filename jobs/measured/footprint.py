"""Notes what each context touches beside lines: modules imported, files opened, folders listed.

Imports are noted even where the module was loaded already; those that a file of the tree makes
as it is imported itself are not, since its source says them. Written as JSON:
{"import" | "open" | "list": {name: [contexts]}}; names of files are relative to the tree's root.
https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
from typing import Any

# Frames of files with such names are the import system's own to `warnings`, which skips them.
HOOK_FILE = "<covtrack importlib _bootstrap>"
HOOK = """\
def make(original, note):
    def __import__(name, globals=None, locals=None, fromlist=(), level=0):
        note(name, globals, fromlist, level)
        return original(name, globals, locals, fromlist, level)
    return __import__
"""
READERS_OF_SOURCE = ("<frozen importlib._bootstrap_external>", "linecache.py", "tokenize.py")
LISTING = ("os.listdir", "os.scandir")
BETWEEN = ":between"
Noted = dict[str, dict[str, set[str]]]


class Footprint:
    """What was touched below `root`, by the context that `recorder` was in."""

    def __init__(self, root: str, recorder: Any) -> None:
        self.start = os.path.join(root, "")
        self.recorder = recorder
        self.noted: Noted = {"import": {}, "open": {}, "list": {}}
        self.between: list[tuple[str, str]] = []
        self._known: set[tuple[Any, ...]] = set()
        self._hook_imports()
        sys.addaudithook(self._hear)

    def _hook_imports(self) -> None:
        made: dict[str, Any] = {}
        exec(compile(HOOK, HOOK_FILE, "exec"), made)
        builtins.__import__ = made["make"](builtins.__import__, self._note_import)
        load = importlib.import_module

        def import_module(name: str, package: str | None = None) -> Any:
            self._note_import(name, {"__package__": package}, (), 0)
            return load(name, package)

        importlib.import_module = import_module

    def _note_import(self, name: str, around: Any, names: Any, level: int) -> None:
        context = self.recorder.context
        if not context or context.endswith(":import"):
            return
        package = around.get("__package__") if around and (level or name[:1] == ".") else None
        names = tuple(names or ())
        key = (context, name, names, package)
        if key in self._known:
            return
        if context != BETWEEN:
            self._known.add(key)
        full = absolute_name(name, package or "", level)
        for word in (full, *("%s.%s" % (full, part) for part in names)):
            self._note("import", word, context)

    def _hear(self, event: str, arguments: Any) -> None:
        if event == "open":
            self._note_path("open", arguments[0])
        elif event in LISTING:
            self._note_path("list", arguments[0])
        elif event == "sqlite3.connect":
            self._note_path("open", arguments[0])

    def _note_path(self, kind: str, path: Any) -> None:
        try:
            name = os.fsdecode("." if path is None else path)
            if not name.startswith("/"):
                name = os.path.join(os.getcwd(), name)
        except (TypeError, OSError):  # a file descriptor, or the working folder is gone
            return
        if not (name + "/").startswith(self.start) or name.endswith(".pyc"):
            return
        if (kind == "list" or name.endswith(".py")) and is_import_system():
            return
        name = os.path.normpath(name)[len(self.start) :]
        self._note(kind, name, self.recorder.context)

    def _note(self, kind: str, name: str, context: str) -> None:
        """Note what a context touched; what the runner itself touches is nobody's."""
        if context == BETWEEN:
            self.between.append((kind, name))
        elif context:
            self.noted[kind].setdefault(name, set()).add(context)

    def claim(self, module: str) -> None:
        """What was touched since the last test belongs to the fixtures of `module`."""
        for kind, name in self.between:
            self.noted[kind].setdefault(name, set()).add("%s:fixtures" % module)
        self.between.clear()

    def write(self, path: str) -> None:
        """Write what was noted as JSON."""
        plain = {
            kind: {name: sorted(contexts) for name, contexts in names.items()}
            for kind, names in self.noted.items()
        }
        with open(path, "w") as file:
            json.dump(plain, file)


def absolute_name(name: str, package: str, level: int) -> str:
    """The dotted name that an import statement or import_module means."""
    dots = level or len(name) - len(name.lstrip("."))
    if not dots:
        return name
    base = package.split(".")[: len(package.split(".")) - dots + 1]
    return ".".join(filter(None, (*base, name.lstrip("."))))


def is_import_system() -> bool:
    """Whether the file is read to be imported or shown in a traceback: lines tell of that."""
    frame = sys._getframe(3)
    return any(frame.f_code.co_filename.endswith(name) for name in READERS_OF_SOURCE)
