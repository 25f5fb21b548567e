"""The one way in which tests call ``dura``: in a process as a person does, or in this process where that is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dura_common.runtime.cli import build

DURA = (sys.executable, "-P", "-m", "dura_common")
"""The command of a process; whoever needs the process itself (signals, streams) starts it with these words."""
SECONDS = 240.0


class Failed(Exception):
    """A dura command ended with an error.

    Attributes:
        code: the exit code.
        answer: the JSON object on standard output, empty where there was none.
        output: everything that was printed.
    """

    def __init__(self, code: int, answer: dict[str, Any], output: str) -> None:
        self.code, self.answer, self.output = code, answer, output
        super().__init__(f"exit code {code}: {self.error or output[-2000:]}")

    @property
    def error(self) -> dict[str, str]:
        """The object with code, message and hint."""
        return dict(self.answer.get("error", {}))


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    errors: str


def dura(
    *words: object,
    here: bool = False,
    env: Mapping[str, str] | None = None,
    timeout: float = SECONDS,
    python: Path | None = None,
) -> dict[str, Any]:
    """Run ``dura`` with ``--json`` and return its object; homes may stand for their paths.

    Args:
        words: of the command line.
        here: in this very process: much quicker, for commands that start nothing and need no environment of their own.
        env: beside the environment of the tests.
        timeout: seconds for a process.
        python: another interpreter than the one that runs the tests.

    Raises:
        Failed: the command ended with another exit code than 0.
    """
    done = _run((*words, "--json"), here=here, env=env, timeout=timeout, python=python)
    assert "Traceback" not in done.out + done.errors, done.out + done.errors
    answer = _object(done.out)
    if done.code:
        raise Failed(done.code, answer, done.out + done.errors)
    return answer


def failed(*words: object, code: int, here: bool = False, env: Mapping[str, str] | None = None) -> Failed:
    """Run a command that must end with this exit code, and return how it failed."""
    with pytest.raises(Failed, match=f"exit code {code}:") as caught:
        dura(*words, here=here, env=env)
    return caught.value


def answer(*words: object, code: int = 0, here: bool = False, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the object of a command that ends with this exit code, be it a failure."""
    return failed(*words, code=code, here=here, env=env).answer if code else dura(*words, here=here, env=env)


def shown(*words: object, columns: int = 120, code: int = 0) -> str:
    """Run a command here without ``--json`` and return what a person sees on a screen so wide."""
    done = _run(words, here=True, env={"COLUMNS": str(columns)}, timeout=SECONDS)
    assert done.code == code, done.out + done.errors
    return done.out


@cache
def _root() -> click.Group:
    return build()


def _run(
    words: tuple[object, ...],
    *,
    here: bool,
    env: Mapping[str, str] | None,
    timeout: float,
    python: Path | None = None,
) -> Done:
    arguments = [str(getattr(word, "path", word)) for word in words]
    if here:
        result = CliRunner(env=dict(env or {})).invoke(_root(), arguments, prog_name="dura")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)
    process = subprocess.run(
        [python or DURA[0], *DURA[1:], *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
    )
    return Done(process.returncode, process.stdout, process.stderr)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    assert isinstance(found, dict), text
    return found
