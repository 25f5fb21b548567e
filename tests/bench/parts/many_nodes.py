"""``python -m tests.bench.parts.many_nodes SITE ...``: the nodes of many sites in one process, which only wait.

Each is Flower's own connection of a node, with the site's key, its heartbeats and its questions for messages, as the
SuperNode makes them. A line is printed when all are signed on.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from flwr.supernode.start_client_internal import _init_connection

from dura_client.consortium.enrolment import load_consortium
from dura_client.node.supernode_adapter import SHORTEST_IDLE
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys


def wait(home: SiteHome, signed_on: threading.Semaphore) -> None:
    """Be the node of a site for ever."""
    here, key = load_consortium(home, datetime.now(UTC)), SiteKeys(home).node()
    authority = here.authority_file.read_bytes()
    with _init_connection(here.roster.fleet, False, authority, (key, key.public_key())) as (_, receive, *_rest):
        signed_on.release()
        while True:
            if receive() is None:
                time.sleep(SHORTEST_IDLE)


def main(paths: list[str]) -> None:
    """Serve until the process is stopped."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signed_on = threading.Semaphore(0)
    for path in paths:
        threading.Thread(target=wait, args=(SiteHome(Path(path)), signed_on), daemon=True).start()
    for _ in paths:
        signed_on.acquire()
    print("all are signed on", flush=True)  # noqa: T201  # a script's output
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1:])
