"""What a command's help shows."""

from __future__ import annotations

import subprocess
import sys


def test_the_help_shows_what_an_argument_is() -> None:
    """Arguments are explained as options are: the versions of click and typer that we ask for work together."""
    done = subprocess.run(
        [sys.executable, "-m", "dura_common", "site", "approve", "--help"], capture_output=True, text=True, check=True
    )
    assert "Name of the study, its digest" in done.stdout
