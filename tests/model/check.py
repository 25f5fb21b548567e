"""``python -m tests.model.check``: run spin over the model of draws and attempts, whole and with each rule taken out.

Exhaustive for the instances named in :data:`INSTANCES`: three sites, one study, one round, one spare draw, two
attempts, a crash, a restart or the end of the study at any moment, and a coordinator that says whatever it likes. What
the model leaves out stands at the head of ``draws.pml``, and is attacked by tests/attacks. Ends with 1 if an assertion
fails in the whole model, or holds although a rule is missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("draws.pml")
INSTANCES = ({"STEPS": 1, "ATTEMPTS": 2}, {"STEPS": 2, "ATTEMPTS": 2})
"""Three sites and one spare draw. The second instance has 18.7 million states, 2 GB and a quarter of an hour."""
MUTANTS = {
    "RESEND": {"STEPS": 1, "ATTEMPTS": 2},
    "NO_BEGIN": {"STEPS": 2, "ATTEMPTS": 3},
    "ANY_ATTEMPT": {"STEPS": 1, "ATTEMPTS": 2},
    "LATE_BEGIN": {"STEPS": 1, "ATTEMPTS": 2},
    "FEW": {"STEPS": 1, "ATTEMPTS": 2},
}
"""Rules that can be taken out, each with an instance in which its absence shows."""
MEMORY_MIB = 8000
DEPTH = 1_000_000


@dataclass(frozen=True)
class Verdict:
    """What spin found."""

    states: int
    broken: str | None
    """The assertion that does not hold; None if all do."""


def tools() -> bool:
    """Tell whether spin and a C compiler are installed."""
    return shutil.which("spin") is not None and shutil.which("gcc") is not None


def explore(sizes: dict[str, int], *, without: str | None = None) -> Verdict:
    """Visit every state of one instance.

    Args:
        sizes: STEPS and ATTEMPTS.
        without: the rule to take out.

    Raises:
        RuntimeError: spin did not finish: the memory or the search depth was too small.
    """
    defines = [f"-D{name}={value}" for name, value in sizes.items()] + ([f"-D{without}"] if without else [])
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["spin", "-a", *defines, MODEL], cwd=folder, check=True, capture_output=True)
        compile_it = ["gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c"]
        subprocess.run(compile_it, cwd=folder, check=True, capture_output=True)
        words = ["./pan", f"-m{DEPTH}", "-w24"]
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout
    broken = re.search(r"assertion violated (.*) \(at depth", done)
    states = re.search(r"(\d+) states, stored", done)
    if states is None or (broken is None and ("errors: 0" not in done or "too small" in done)):
        raise RuntimeError(f"spin did not finish:\n{done[-1000:]}")
    return Verdict(int(states[1]), broken[1].strip() if broken else None)


def main() -> int:
    """Check everything and print a line for each run."""
    if not tools():
        print("the model is not checked: it needs spin and gcc (Debian packages spin and gcc)")
        return 0
    wrong = 0
    for sizes in INSTANCES:
        verdict = explore(sizes)
        wrong += verdict.broken is not None
        print(f"{sizes}: {verdict.states} states, {verdict.broken or 'every assertion holds'}", flush=True)
    for rule, sizes in MUTANTS.items():
        verdict = explore(sizes, without=rule)
        wrong += verdict.broken is None
        print(f"without {rule} {sizes}: {verdict.broken or 'NOTHING BREAKS'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
