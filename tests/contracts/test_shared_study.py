"""A whole study over four hospitals: real gate, ledger, protocol and coordinator; only the network is missing."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tests.support.commands import dura, failed
from tests.support.world import DELTA, SITES, World, make_world, small

from dura_client.data.registry import load_dataset, register
from dura_common.errors import HostError, PolicyError
from dura_common.messages import EvaluateRound, Refusal, RefusalReason, Reply, TrainRound, encode
from dura_common.privacy.plan import plan_of
from dura_server.rounds.rounds import first_parameters


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return four small hospitals."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    ("noise", "sums"), [("shared", "step"), ("shared", "round"), ("local", "step")], ids=["step", "round", "local"]
)
def test_a_study_runs_to_its_end_and_costs_what_was_planned(world: World, noise: str, sums: str) -> None:
    """Model and curve are there, and every site's ledger holds exactly the planned cost, of a study that has ended."""
    asked = small(f"{noise}-{sums}", noise=noise, sums=sums)
    stored = world.approved(asked)
    world.rounds(stored).train()
    state = stored.read_state()
    assert state.phase == "finished"
    assert len(state.curve) == 2
    assert set(state.sites.values()) == {"approved"}
    assert np.isfinite(stored.read_model()).all()
    for name in SITES:
        (row,) = [row for row in world.ledger(name).studies(DELTA) if row.study == stored.digest]
        assert row.state == "closed"
        assert row.redraws == 0
        assert row.epsilon == pytest.approx(plan_of(asked).epsilon, rel=1e-6)
    asked_of = Counter(
        (name, request.kind, request.round)
        for name, request in world.sites.asked
        if isinstance(request, TrainRound | EvaluateRound) and request.study == stored.digest
    )
    assert asked_of == Counter(product(SITES, ("train-round",), (1, 2))), "nobody is asked twice, or for an evaluation"


def test_a_lost_site_costs_one_more_step_and_the_study_goes_on(world: World) -> None:
    """A site that dies before its second step: the others draw that step afresh, pay for it, and all go on."""
    asked = small("loss", minimum_sites=3, tolerated_dropouts=1, spare_steps=2)
    stored = world.approved(asked)
    world.hub.killed["south", 2] = "before sending"
    world.rounds(stored).train()
    assert stored.read_state().phase == "finished"
    for name in ("east", "north", "west"):
        (row,) = [row for row in world.ledger(name).studies(DELTA) if row.study == stored.digest]
        assert row.redraws == 1
        assert row.draws == 2 * 3 + 1 + 2
        assert world.ledger(name).spent(DELTA, stored.digest) <= asked.privacy.epsilon
    assert stored.read_state().redraws == 1


def test_nobody_waits_in_a_sum_for_a_site_that_died(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum that opens without a site which says nothing more: the next one counts on it only if it says it is back."""
    stored = world.approved(small("dead", sums="round", minimum_sites=3, tolerated_dropouts=1, spare_steps=2))
    service, over, dead = world.sites.services["south"], threading.Event(), threading.Event()
    real = service.answer

    def answer(body: bytes, vector: object) -> Reply:
        reply = real(body, vector)  # type: ignore[arg-type]  # passed on as it came
        if isinstance(reply, Refusal):
            dead.set()
        if dead.is_set():
            over.wait(60)
        return reply

    monkeypatch.setattr(service, "answer", answer)
    monkeypatch.setattr("dura_server.rounds.asking.LEAVING_SECONDS", 0.3)
    monkeypatch.setattr("dura_server.rounds.roll.BACK_SECONDS", 0.3)
    world.hub.killed["south", 2] = "before sending"
    try:
        world.rounds(stored).train()
    finally:
        over.set()
    state = stored.read_state()
    assert (state.phase, state.redraws) == ("finished", 0), "the sum was opened without it, and nothing was drawn again"
    assert "south" in {name for name, said in state.sites.items() if said != "approved"}
    asked = [
        request.members
        for _, request in world.sites.asked
        if getattr(request, "study", "") == stored.digest and isinstance(request, TrainRound | EvaluateRound)
    ]
    assert [members for members in asked if "south" in members] == [SITES] * 4, "only the first request counted on it"


def test_without_spare_steps_a_loss_ends_the_study_and_nobody_pays_too_much(world: World) -> None:
    """The sites refuse to draw a step again that the study has not declared, and the ledger stays under the cap."""
    asked = small("no-spare")
    stored = world.approved(asked)
    world.hub.killed["south", 2] = "before sending"
    with pytest.raises(HostError, match="3 of 4 needed sites are left"):
        world.rounds(stored).train()
    for name in SITES:
        assert world.ledger(name).spent(DELTA, stored.digest) <= asked.privacy.epsilon


def test_a_round_is_not_answered_twice(world: World) -> None:
    """The same request again, or one for a finished round as a further attempt, never opens anything for free."""
    stored = world.approved(small("twice"))
    world.rounds(stored).train()
    name, request = next(
        (n, r) for n, r in world.sites.asked if getattr(r, "study", "") == stored.digest and hasattr(r, "first_step")
    )
    before = world.ledger(name).entries()
    size = world.rounds(stored)._network
    length = sum(p.numel() for p in size.parameters())
    reply = world.sites.services[name].answer(encode(request), np.zeros(3 * length, np.float32))
    assert reply == Refusal(reason=RefusalReason.NO_DRAW_LEFT)  # the study has ended
    assert world.ledger(name).entries() == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"members": ("east", "north", "south")}, RefusalReason.NOT_UNDERSTOOD),
        ({"members": ("north", "east", "south", "west")}, RefusalReason.NOT_UNDERSTOOD),
        ({"members": ("east", "north", "south", "west", "zurich")}, RefusalReason.NOT_UNDERSTOOD),
        ({"members": ("north", "south", "west")}, RefusalReason.NOT_UNDERSTOOD),
        ({"first_step": 4}, RefusalReason.NOT_UNDERSTOOD),
        ({"round": 3}, RefusalReason.NOT_UNDERSTOOD),
    ],
)
def test_requests_beyond_the_study_charge_nothing(world: World, changes: dict[str, Any], reason: RefusalReason) -> None:
    """Too few members, others, none of this site, steps that the study has not: refused before the ledger."""
    from dura_common.messages import TrainRound
    from dura_common.models import parameter_total

    asked = small("beyond")
    stored = world.approved(asked)
    length = 3 * parameter_total(world.rounds(stored)._network)
    request = TrainRound(study=stored.digest, round=1, attempt=1, members=SITES).model_copy(update=changes)
    before = world.ledger("east").entries()
    reply = world.sites.services["east"].answer(encode(request), np.zeros(length, np.float32))
    assert reply == Refusal(reason=reason)
    assert world.ledger("east").entries() == before


def test_a_hospital_compares_its_own_model_with_a_federated_one(world: World, tmp_path: Path) -> None:
    """Both are scored on the same held-out patients, the ledger is not charged, and the pool holds everybody."""
    stored = world.approved(small("compare", noise="local"))
    model = tmp_path / "model.safetensors"
    model.write_bytes(save({"parameters": first_parameters(stored.study)}))
    before = world.ledger("east").entries()
    baseline = ("site", "baseline", stored.digest, "--data", "motor", "--home", world.consortium.site("east"))
    alone = dura(*baseline, "--model", model, here=True)
    assert set(alone["model"]) == {"measure", "accuracy", "spread", "scores"}
    assert alone["measure"] == "accuracy"
    assert len(alone["scores"]) == len(alone["model"]["scores"]) > 0
    assert all(0 <= score <= 1 for score in (*alone["scores"], *alone["model"]["scores"]))
    others = [word for name in SITES[1:] for word in ("--pool", world.consortium.site(name).path)]
    pooled = dura(*baseline, *others, here=True)
    assert len(pooled["scores"]) > len(alone["scores"])
    besides = [word for name in SITES[1:] for word in ("--beside", world.consortium.site(name).path)]
    each = dura(*baseline, "--model", model, *besides, here=True)
    assert each["model"] == alone["model"]
    assert len(each["beside"]) == len(SITES[1:])
    for name, one in zip(SITES[1:], each["beside"], strict=True):
        home = ("--data", "motor", "--home", world.consortium.site(name))
        assert one["model"] == dura("site", "baseline", stored.digest, "--model", model, *home, here=True)["model"]
    scored = sum(len(one["scores"]) for one in (each, *each["beside"]))
    assert scored == len(pooled["scores"])
    assert world.ledger("east").entries() == before


def test_data_of_real_patients_are_never_pooled(world: World) -> None:
    """One home whose data are neither simulated nor public is enough to refuse, before anything is read."""
    stored = world.approved(small("no-pool", noise="local"))
    for name in SITES[:2]:
        home = world.consortium.site(name)
        register(home, load_dataset(home, "motor").model_copy(update={"name": "real", "simulated": name == "east"}))
    for option in ("--pool", "--beside"):
        words = (option, world.consortium.site("north"), "--data", "real", "--home", world.consortium.site("east"))
        refusal = failed("site", "baseline", stored.digest, *words, code=PolicyError.exit_code, here=True)
        assert refusal.error["code"] == "policy"
