"""``python -m tests.support.plane.site HOME PARAMS [key=value ...]``: one site of a session, as a process.

Options: ``pause`` seconds of training before each step, ``stop_at`` the step before which it kills itself.
Writes ``opened STEP SUM CONTRIBUTORS DRAW`` for every sum, ``redraw STEP DRAW`` for every fresh draw, and how it ended.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.support.plane.service import vector_of

from dura_client.site.home import SiteHome
from dura_client.sums.session import Patience, Redraw, SumSession
from dura_common.errors import DuraError
from dura_common.secagg import SessionParameters


def say(*words: object) -> None:
    """Write one line at once."""
    print(*words, flush=True)  # noqa: T201  # a script's output


def main(arguments: list[str]) -> None:
    """Take part in one session."""
    logging.basicConfig(level=logging.INFO)
    home, params = SiteHome(Path(arguments[0])), SessionParameters.decode(Path(arguments[1]).read_bytes())
    options = dict(word.split("=", 1) for word in arguments[2:])
    name, pause = home.path.name, float(options.get("pause", 0))
    draws: dict[int, int] = {}

    def redraw(need: Redraw) -> NDArray[np.int64]:
        draws[need.step] = need.draw
        say("redraw", need.step, need.draw, ",".join(need.members))
        return vector_of(name, need.step, params.length, need.draw)

    patience = Patience(join=30, step=40, rejoin=float(options.get("rejoin", 20)))
    try:
        with SumSession(home, params, redraw=redraw, patience=patience, address=options.get("address")) as sums:
            say("attending")
            for step in range(params.first_step, params.first_step + params.steps):
                time.sleep(pause)
                if options.get("stop_at") == str(step):
                    os.kill(os.getpid(), signal.SIGKILL)
                opened = sums.step(vector_of(name, step, params.length))
                say("opened", opened.step, int(opened.total.sum()), ",".join(opened.contributors), draws.get(step, 0))
        say("finished")
    except DuraError as error:
        say("failed", type(error).__name__, getattr(error, "word", ""), error.message)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
