"""A coordinator wants the table of recordings from a study with noise: no way of asking brings it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.consortium import NAMES, Consortium, contents
from tests.support.policies import approve_study
from tests.support.running import TASK
from tests.support.studies import study

from dura_client.data.dataset import DataSet
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import simulate
from dura_client.node.service import SiteService
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import NotAuthentic, receive_offer
from dura_client.sums.ports import Part
from dura_common.consortium.envelope import payload_of, sign
from dura_common.consortium.keyfile import load_private
from dura_common.messages import EvaluateRound, Refusal, RefusalReason, RoundDone, encode
from dura_common.models import build_model, to_vector
from dura_common.outputs.duplicates import LENGTH
from dura_common.policy import Policy
from dura_common.secagg import SessionParameters
from dura_common.study import STUDY_TYPE, Study

NOW = datetime.now(UTC)
PATIENTS = 14


@dataclass
class Kept:
    """In place of the way to other sites: keeps what would have been masked."""

    vectors: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Let the part draw once."""
        self.vectors.append((params.length, part.draw(params.first_step)))


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Return a consortium whose hospital "north" holds public recordings, so that nothing but the noise forbids it."""
    made = Consortium(tmp_path_factory.mktemp("consortium"))
    made.make_all(NOW)
    north = made.site("north")
    (north.keys / "pseudonym.key").write_bytes(b"harbour".ljust(32, b"*"))  # decides who is held out
    simulate(made.root / "recordings", "north", patients=PATIENTS, trials=6, seed=3)
    register(north, DataSet(name="motor", root=str(made.root / "recordings"), task=TASK, public=True))
    rules = {"epsilon_per_study": 10, "epsilon_total": 20, "delta": 1e-3, "minimum_patients": 10, "minimum_sites": 2}
    write_policy(north, Policy(**rules, public_data_without_noise=True))
    return made


def private() -> Study:
    """Return a study with noise of one round."""
    return study(
        sites=dict.fromkeys(NAMES, PATIENTS),
        training={"rounds": 1, "steps_per_round": 1, "learning_rate": 0.01},
        expires="2099-01-01",
    )


def test_a_signed_study_that_wants_both_is_not_even_kept(consortium: Consortium) -> None:
    """A researcher who signs around the schema: the site validates the document itself."""
    offer, _ = consortium.offer(private())
    document = json.loads(payload_of(offer.study))
    document["study"]["evaluation"]["duplicates"] = True
    key = load_private(consortium.researcher.key.read_bytes())
    assert isinstance(key, Ed25519PrivateKey)
    forged = offer.model_copy(update={"study": sign(json.dumps(document).encode(), STUDY_TYPE, key)})
    north = consortium.site("north")
    before = contents(north.path)
    with pytest.raises(NotAuthentic, match="duplicates"):
        receive_offer(north, forged, NOW)
    assert contents(north.path) == before


def test_nothing_that_the_coordinator_asks_brings_a_table(consortium: Consortium) -> None:
    """Words of its own are not understood; the request for the last evaluation brings two noisy sums and no more."""
    asked = private()
    offer, reference = consortium.offer(asked)
    north, kept = consortium.site("north"), Kept()
    receive_offer(north, offer, NOW)
    approve_study(north, reference, "motor", NOW)
    service = SiteService(north, kept)
    parameters = to_vector(build_model(asked))
    request = EvaluateRound(study=reference, round=1, attempt=1, members=tuple(sorted(NAMES)))
    for words in ({"duplicates": True}, {"outputs": ["duplicates"]}, {"length": 2 + LENGTH}, {"kind": "duplicates"}):
        body = json.dumps({**json.loads(encode(request)), **words}).encode()
        assert service.answer(body, parameters) == Refusal(reason=RefusalReason.NOT_UNDERSTOOD)
    longer = np.concatenate([parameters, np.zeros(LENGTH, np.float32)])
    assert service.answer(encode(request), longer) == Refusal(reason=RefusalReason.NOT_UNDERSTOOD)
    assert kept.vectors == []
    assert isinstance(service.answer(encode(request), parameters), RoundDone)
    ((length, vector),) = kept.vectors
    assert length == vector.size == 2
