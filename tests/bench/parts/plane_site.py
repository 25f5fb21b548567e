"""``python -m tests.bench.parts.plane_site HOME PARAMS SUMS ADDRESS``: one site of the plane's benches.

Says ``ready`` when everything is imported, waits for a line, takes part in the session, checks every sum, and says how
many seconds it took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from dura_client.site.home import SiteHome
from dura_client.sums.session import SumSession
from dura_common.secagg import SessionParameters


def main(arguments: list[str]) -> None:
    """Run the session."""
    home, params = SiteHome(Path(arguments[0])), SessionParameters.decode(Path(arguments[1]).read_bytes())
    count, address = int(arguments[2]), arguments[3] or None
    index = params.index(home.path.name)
    vector = np.arange(params.length, dtype=np.int64) % 1000 + index
    members = len(params.members)
    total = members * (vector - index) + sum(range(members))
    print("ready", flush=True)  # noqa: T201  # a script's output
    sys.stdin.readline()
    begin = time.perf_counter()
    with SumSession(home, params, sums=count, address=address) as sums:
        for _ in range(count):
            opened = sums.step(vector)
            assert np.array_equal(opened.total, total)
    print(f"seconds {time.perf_counter() - begin}", flush=True)  # noqa: T201  # idem


if __name__ == "__main__":
    main(sys.argv[1:])
