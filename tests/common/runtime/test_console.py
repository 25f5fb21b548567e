"""How a command that fails speaks: one error for people and for scripts, and the exit code of its family."""

from __future__ import annotations

import errno
import json
import os

import click
import pytest

from dura_common.errors import HostError
from dura_common.runtime.console import command


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.EMFILE])
def test_a_file_that_the_system_refuses_is_one_error(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the operating system that names a file is told in one line, with what to check, and no traceback."""
    with pytest.raises(click.exceptions.Exit, match=str(HostError.exit_code)), command(as_json=False):
        raise OSError(number, os.strerror(number), "/home/other/policy.toml")
    said = capsys.readouterr()
    assert said.err.startswith(f"error: /home/other/policy.toml: {os.strerror(number)}\n  Check")
    assert not said.out


def test_a_script_reads_the_same_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With ``--json`` the error is an object on standard output."""
    with pytest.raises(click.exceptions.Exit, match=str(HostError.exit_code)), command(as_json=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), b"/home/other")
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "/home/other: Permission denied"


def test_output_that_cannot_be_written_is_left_to_the_outside() -> None:
    """An error without a file is not taken for one: the command's end says that its output was lost."""
    with pytest.raises(BrokenPipeError, match="Broken pipe"), command(as_json=False):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
