"""One hospital with simulated recordings and an approved study, and coordinators that keep or lose what it sends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.support.consortium import Consortium
from tests.support.policies import approve_study, policy
from tests.support.running import TASK
from tests.support.studies import study

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import pseudonym
from dura_client.data.registry import register
from dura_client.ledger.ledger import Ledger
from dura_client.ledger.place import site_ledger
from dura_client.node.service import SiteService
from dura_client.site.home import SiteHome
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_client.sums.ports import Part
from dura_client.training.split import held_out
from dura_common.messages import EvaluateRound, Reply, SumRound, TrainRound, encode
from dura_common.models import build_model, first_state
from dura_common.secagg import Opened, SessionParameters
from dura_common.study import Study
from dura_common.sums.agreed import carried_rule

NOW = datetime.now(UTC)
DELTA = 1e-3
PATIENTS = 17


def label(number: int) -> str:
    """Return a patient's label as simulated recordings have it."""
    return f"{number:03d}"


def key_with(test: Callable[[set[int]], bool]) -> bytes:
    """Return a pseudonym key under which the numbers of those who are held out pass a test."""
    for number in range(100_000):
        key = b"key%d" % number
        key = key.ljust(32, b"*")
        if test({n for n in range(1, PATIENTS + 1) if held_out(pseudonym(label(n), key), 0.25)}):
            return key
    raise AssertionError("no such key")


@dataclass
class Hospital:
    """The hospital in the north, its consortium, and the recordings that its data set has."""

    consortium: Consortium
    recordings: Path
    names: tuple[str, ...] = ("east", "north")

    @property
    def home(self) -> SiteHome:
        """Its folder."""
        return self.consortium.site("north")

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""
        return site_ledger(self.home)

    def key(self, number: int) -> str:
        """Return a patient's key in the ledger."""
        return pseudonym(label(number), (self.home.keys / "pseudonym.key").read_bytes())

    def wanted(self, **changes: Any) -> Study:
        """Return a study of two rounds with two steps each, of this hospital and others like it."""
        defaults: dict[str, Any] = {
            "sites": dict.fromkeys(self.names, 14),
            "expires": "2099-01-01",
            "model": {"name": "linear"},
            "privacy": {"participation": 1.0},
            "training": {"rounds": 2, "steps_per_round": 2, "learning_rate": 0.01},
            "evaluation": {"epsilon": 8.0, "every": 1},
            "aggregation": {"minimum_sites": len(self.names)},
        }
        for section, values in changes.items():
            defaults[section] = {**defaults.get(section, {}), **values} if isinstance(values, dict) else values
        return study(**defaults)

    def offered(self, asked: Study) -> str:
        """Let the hospital receive an offer; return the study's digest."""
        offer, reference = self.consortium.offer(asked)
        receive_offer(self.home, offer, NOW)
        return reference

    def approved(self, asked: Study) -> str:
        """Let the hospital approve a study; return its digest."""
        reference = self.offered(asked)
        approve_study(self.home, reference, "motor", NOW)
        return reference

    def service(self, sums: object) -> SiteService:
        """Return a process that serves this home from here on, with nothing in its memory."""
        return SiteService(self.home, sums, clock=lambda: NOW)  # type: ignore[arg-type]  # every test has a way of its own

    def answer(self, sums: object, request: SumRound, asked: Study) -> Reply:
        """Return what a fresh process answers to a request."""
        return self.service(sums).answer(encode(request), vector_for(request, asked))

    def train(self, reference: str, attempt: int = 1, **changes: Any) -> TrainRound:
        """Return a request for a round of training."""
        values = {"study": reference, "round": 1, "attempt": attempt, "members": self.names, **changes}
        return TrainRound(**values)

    def evaluate(self, reference: str, attempt: int = 1, **changes: Any) -> EvaluateRound:
        """Return a request for an evaluation, the first one if nothing else is said."""
        values = {"study": reference, "round": 1, "attempt": attempt, "members": self.names, **changes}
        return EvaluateRound(**values)

    def remove(self, numbers: Iterable[int], apart: Path | None = None) -> None:
        """Take patients' recordings away, or put them apart."""
        for number in numbers:
            folder = self.recordings / f"sub-{label(number)}"
            if apart is None:
                shutil.rmtree(folder)
            else:
                apart.mkdir(exist_ok=True)
                shutil.move(folder, apart / folder.name)

    def bring(self, apart: Path) -> None:
        """Put back what was put apart."""
        for folder in apart.iterdir():
            shutil.move(folder, self.recordings / folder.name)

    def rename(self, number: int, new: int, *, keep: bool = False) -> None:
        """Give a patient's recordings another label; ``keep`` leaves the first ones where they are."""
        relabel(self.recordings, number, new, keep=keep)

    def forget_prepared(self) -> None:
        """Delete the cache, which may be done at any time."""
        shutil.rmtree(self.home.cache, ignore_errors=True)


def relabel(recordings: Path, number: int, new: int, *, keep: bool = False) -> None:
    """Give a patient's recordings in a folder another label; ``keep`` leaves the first ones where they are."""
    old, target = recordings / f"sub-{label(number)}", recordings / f"sub-{label(new)}"
    (shutil.copytree if keep else shutil.move)(old, target)
    words = (f"sub-{label(number)}", f"sub-{label(new)}")
    for path in sorted(target.rglob("*")):
        if path.is_file() and path.suffix in {".vhdr", ".vmrk", ".json", ".tsv"}:
            path.write_text(path.read_text().replace(*words))
    for path in sorted(target.rglob(f"*{words[0]}*"), reverse=True):
        path.rename(path.with_name(path.name.replace(*words)))


def make_hospital(root: Path, recordings: Path, names: Sequence[str] = ("east", "north"), **rules: Any) -> Hospital:
    """Make a consortium whose hospital in the north has these recordings as its data set ``motor``."""
    consortium = Consortium(root, tuple(names))
    consortium.make_all(NOW)
    home = consortium.site("north")
    (home.keys / "pseudonym.key").write_bytes(key_with(lambda out: 4 <= len(out) <= 5 and not out & {1, 5, 15, 16, 17}))
    register(home, DataSet(name="motor", root=str(recordings), task=TASK, simulated=True))
    limits = {"epsilon_per_study": 10, "epsilon_total": 20, "minimum_patients": 5, "minimum_sites": 2, **rules}
    write_policy(home, policy(noise=("local", "shared"), epsilon_if_broken=60.0, **limits))
    return Hospital(consortium, recordings, tuple(sorted(names)))


def vector_for(request: SumRound, asked: Study) -> NDArray[np.float32]:
    """Return the vector that goes with a request: the study's first state."""
    state = first_state(build_model(asked), carried_rule(asked))
    return state.to_vector() if isinstance(request, TrainRound) else state.parameters


class Keeps:
    """A coordinator that opens nothing and keeps every vector, as if it had broken the aggregation."""

    def __init__(self) -> None:
        self.vectors: list[NDArray[np.signedinteger]] = []

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Let the part draw each step and open what it sends as the sum."""
        for step in range(params.first_step, params.first_step + params.steps):
            self.vectors.append(part.draw(step))
            part.opened(Opened(step, self.vectors[-1].astype(np.int64), params.names))


class Loses(Keeps):
    """A coordinator that opens the first sum in silence and says that it was lost."""

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take one vector and end the session."""
        from dura_client.sums.session import SumFailed

        self.vectors.append(part.draw(params.first_step))
        raise SumFailed("CANCELLED", "the coordinator ended the secure sum")
