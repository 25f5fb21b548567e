"""``python -m dura_client.node.runner``: serves the SuperNode's tasks with the installed ClientApp.

The app is imported once, from site-packages, before the first task is asked for; nothing that a task brings can
change which code answers it. A runner that has nothing to do ends, and its supervisor starts another one when the
SuperNode's bell rings: most of the time, a site waits.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import httpx
from flwr.clientapp import ClientApp

from dura_client.node.flower_adapter import NodeAddress, TaskSource

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
REST_SECONDS = 120.0
"""A runner that has nothing to do for so long ends."""
WARM_SECONDS = 600.0
"""The same for a runner that has imported what trains."""


def load(reference: str) -> tuple[ClientApp, Callable[[], None]]:
    """Import ``module:name``; the reference comes from the command line of this machine only.

    Return the app, and what its module does when there will be work soon (``prepare``, if it has that).
    """
    name, _, attribute = reference.partition(":")
    module = import_module(name)
    app = getattr(module, attribute)
    if not isinstance(app, ClientApp):
        raise TypeError(f"{reference} is not a ClientApp")
    return app, getattr(module, "prepare", lambda: None)


def main(arguments: list[str]) -> None:
    """Serve until the process is stopped: SOCKET SECRET_FILE MODULE:APP."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # or it writes a line for every poll
    node = NodeAddress(Path(arguments[0]), Path(arguments[1]))
    app, prepare = load(arguments[2])
    Path(arguments[1]).with_suffix(".ready").write_text(str(os.getpid()))
    source = TaskSource(node, soon=prepare)
    log.info("serving tasks with %s", getattr(app, "__module__", "the installed app"))
    busy = time.monotonic()
    while True:
        try:
            if source.serve_one(lambda message, context: app(message=message, context=context)):
                busy = time.monotonic()
            elif time.monotonic() - busy > (WARM_SECONDS if "torch" in sys.modules else REST_SECONDS):
                log.info("nothing to do; the next task, or an approval, starts it again")
                return
        except httpx.HTTPError:
            log.warning("the SuperNode cannot be reached; trying again")
            time.sleep(RETRY_SECONDS)
        except Exception:  # the boundary of a task: the next one may be served
            log.exception("a task could not be served")
            time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
