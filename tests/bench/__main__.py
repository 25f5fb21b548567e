"""Run benches: ``python -m tests.bench`` all of them, ``python -m tests.bench NAME ...`` those whose names begin so.

Every module of this folder named ``bench_*.py`` has a table ``BENCHES`` from a figure's name to a function that
measures it and returns a :class:`tests.bench.line.Line`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.line import Line


def benches() -> dict[str, Callable[[], Line]]:
    """Return all benches by name."""
    found: dict[str, Callable[[], Line]] = {}
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        found.update(importlib.import_module(f"tests.bench.{path.stem}").BENCHES)
    return found


def main(wanted: list[str]) -> int:
    """Run the wanted benches and print one JSON line each; unknown names are an error that lists the known ones."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the site's runner has it; before torch is imported
    known = benches()
    chosen = [name for name in known if not wanted or any(name.startswith(word) for word in wanted)]
    if not chosen:
        print(f"no bench begins with {', '.join(wanted)}; there are: {', '.join(known)}", file=sys.stderr)  # noqa: T201  # a script's output
        return 2
    for name in chosen:
        print(known[name](), flush=True)  # noqa: T201  # idem
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
