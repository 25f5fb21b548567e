"""`make soak`: short studies in a row on one host, then quiet minutes: nothing fails, memory and logs stay flat.

Prints one JSON line for each study and one at the end. The exit code is 1 if a study did not finish.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.line import Line
from tests.federation.hospitals import DELTA, PATIENTS, POLICY, SITES, Hospitals
from tests.support.commands import Failed, dura
from tests.support.policies import approve_study
from tests.support.processes import processes_of
from tests.support.studies import Only, changed

from dura_client.studies.approvals import receive_offer
from dura_common.study import Study, parse_study
from dura_server.studies.template import study_toml

MIB = 1 << 20
PAGE = 4096
EPSILON = 1.0
SAMPLE_SECONDS = 10.0


@dataclass
class Soak:
    """One consortium under watch."""

    made: Hospitals
    failures: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    """MiB of all processes, after each study or sample."""
    logs: list[float] = field(default_factory=list)
    """MiB of all logs and of Flower's database."""

    def sample(self) -> tuple[float, float]:
        """Measure memory and logs now."""
        pages = 0
        for process in processes_of(self.made.root):
            try:
                pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
            except OSError:
                continue  # it has ended meanwhile
        homes = [self.made.coordinator.path, *(self.made.site(name).path for name in SITES)]
        files = [path for home in homes for path in (home / "log").glob("*")]
        files += list(self.made.coordinator.flower.glob("state.db*"))
        self.memory.append(pages * PAGE / MIB)
        self.logs.append(sum(path.stat().st_size for path in files) / MIB)
        return self.memory[-1], self.logs[-1]

    def study(self, number: int) -> None:
        """Run one short study from its offer to its end."""
        stored, offer = self.made.submit(short(f"soak-{number}"))
        for name in SITES:
            receive_offer(self.made.site(name), offer, self.made.now())
            approve_study(self.made.site(name), stored.digest, "mi", self.made.now())
        begin = time.monotonic()
        try:
            phase = dura("study", "run", stored.digest, "--home", self.made.coordinator.path, timeout=900.0)["phase"]
        except Failed as error:
            phase = str(error)
        if phase != "finished":
            self.failures.append(f"{stored.study.name}: {phase}")
        memory, logs = self.sample()
        seconds = time.monotonic() - begin
        say("soak_study", seconds, "s", number=number, phase=phase, memory_mib=memory, logs_mib=logs)


def short(name: str) -> Study:
    """Return a study of one round and two steps."""
    sites = dict.fromkeys(SITES, PATIENTS)
    text = study_toml(name=name, question="?", sites=sites, epsilon=EPSILON, delta=DELTA, seed=1, noise="shared")
    return changed(
        parse_study(text.encode()),
        data={"channels": ["C3", "Cz", "C4"], "minimum_patients": 5},
        model=Only(name="eegnet", temporal_filters=2, separable_filters=4, kernel_seconds=0.1),
        privacy={"windows_per_patient": 4, "participation": 1.0},
        training={"rounds": 1, "steps_per_round": 2},
        evaluation={"every": 1, "held_out": 0.4},
        aggregation={"minimum_sites": 3, "tolerated_dropouts": 1, "tolerated_colluders": 0, "spare_steps": 2},
    )


def say(name: str, value: float, unit: str, **detail: Any) -> None:
    """Print one line."""
    print(Line(name, value, unit, detail), flush=True)  # noqa: T201  # a script's output


def main(arguments: list[str]) -> int:
    """Soak: --studies N --minutes M."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=20.0)
    wanted = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        made = Hospitals(Path(folder), policy=POLICY.model_copy(update={"epsilon_total": 1000.0}))
        soak = Soak(made)
        try:
            made.make_all()
            made.start()
            soak.sample()
            for number in range(1, wanted.studies + 1):
                soak.study(number)
            after = len(soak.memory) - 1
            until = time.monotonic() + 60.0 * wanted.minutes
            while time.monotonic() < until:
                time.sleep(SAMPLE_SECONDS)
                soak.sample()
        finally:
            made.stop()
    moments = {"start": 0, "after_studies": after, "end": -1}
    say(
        "soak_failures",
        len(soak.failures),
        "studies",
        studies=wanted.studies,
        minutes=wanted.minutes,
        failures=soak.failures,
        memory_mib={name: soak.memory[at] for name, at in moments.items()},
        logs_mib={name: soak.logs[at] for name, at in moments.items()},
    )
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
