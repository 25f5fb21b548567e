"""``python -m tests.fuzz [--seconds N | --runs N] [NAME ...]``: coverage-guided fuzzing of parsers of outside bytes.

Each target runs in a process of its own (atheris does not return) for so many seconds. What is new to the coverage
joins the target's corpus under ``build/fuzz``, from which the next run begins; a failing input is kept beside it, to
be copied into ``tests/fuzz/found`` when its fault is mended, where the default tests replay it.

With ``--runs`` each target gets so many inputs, from a fixed seed and without the corpus of earlier runs: two such runs
try the same inputs, so that a check that people wait for cannot fail by chance.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import targets

CORPUS = Path("build/fuzz")
LONGEST = 65_536
"""Bytes of an input."""
MEMORY_MIB = 2048
SLOWEST_SECONDS = 10
"""An input that takes longer is a finding: a stranger could keep a process busy."""


def run(name: str, seconds: int, runs: int | None) -> bool:
    """Fuzz one target; return whether nothing was found."""
    corpus = CORPUS / name if runs is None else CORPUS / "repeatable" / name
    if runs is not None:
        shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets()[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        *([f"-max_total_time={seconds}"] if runs is None else [f"-runs={runs}", "-seed=1"]),
        f"-max_len={LONGEST}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={SLOWEST_SECONDS}",
        f"-artifact_prefix={corpus.parent}/{name}-",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.child", name, *options, str(corpus)],
        capture_output=True,
        text=True,
        check=False,
    )
    runs = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("Done ")), "stopped early")
    print(f"{name}: {runs}", flush=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    """Fuzz all targets, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", choices=[[], *targets()], metavar="NAME")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, help="inputs for each target, the same at each run; instead of seconds")
    words = parser.parse_args()
    found = [name for name in words.names or targets() if not run(name, words.seconds, words.runs)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
