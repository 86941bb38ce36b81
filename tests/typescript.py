"""Gerrit's published typings and a TypeScript compiler for the tests, by npm, each pinned."""

from __future__ import annotations

import json
import shutil
import tempfile
import unittest
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from venv_builder.processes import Completed, run_command

PACKAGES = ("@gerritcodereview/typescript-api@3.13.0", "typescript@5.9.3")
OPTIONS = {
    "target": "es2021",
    "module": "es2020",
    "moduleResolution": "node",
    "lib": ["es2021", "dom", "dom.iterable"],
    "types": [],
    "allowJs": True,
    "checkJs": True,
    "noEmit": True,
    "strict": True,
    "noImplicitReturns": True,
    "noUnusedLocals": True,
    "noUnusedParameters": True,
    "skipLibCheck": True,
}


def typings() -> Path:
    """The folder that npm installed the packages into; SkipTest where it cannot."""
    name = "-".join(package.rpartition("@")[2] for package in PACKAGES)
    folder = user_cache_path("covtrack") / "npm" / name
    if (folder / "node_modules/.bin/tsc").exists():
        return folder
    if shutil.which("npm") is None:
        raise unittest.SkipTest("no npm on PATH")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent))
    flags = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save")
    done = run_command(["npm", "install", "--prefix", new, *flags, *PACKAGES], timeout=300)
    if done.status != 0:
        shutil.rmtree(new)
        raise unittest.SkipTest(f"npm does not install: {done.last_words}")
    try:
        new.rename(folder)
    except OSError:  # Somebody else was quicker.
        shutil.rmtree(new)
    return folder


def check_types(files: Sequence[Path]) -> Completed:
    """What tsc says of JavaScript files that name Gerrit's types in their comments."""
    folder = typings()
    modules = {"@gerritcodereview/*": [f"{folder}/node_modules/@gerritcodereview/*"]}
    with tempfile.TemporaryDirectory() as name:
        plan = Path(name) / "tsconfig.json"
        options = OPTIONS | {"baseUrl": ".", "paths": modules}
        plan.write_text(json.dumps({"compilerOptions": options, "files": [*map(str, files)]}))
        return run_command([folder / "node_modules/.bin/tsc", "-p", plan], timeout=300)
