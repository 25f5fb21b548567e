"""A running coordinator's door with two researchers, checked again after all attacks of a module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.attacks.plane.intruders import serves
from tests.support.plane.desk import add_researcher, join_researcher
from tests.support.plane.service import Plane
from tests.support.studies import study

from dura_server.studies.researcher import ResearcherHome, sign_study
from dura_server.studies.store import StoredStudy, StudyStore


@dataclass
class Door:
    """A running service, two researchers that have joined, and a study of each."""

    plane: Plane
    ada: ResearcherHome
    eve: ResearcherHome
    of_ada: StoredStudy
    of_eve: StoredStudy


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Return the door; after all attacks its log holds no secret, it still serves, and no study has changed."""
    plane = Plane(tmp_path_factory.mktemp("d"))
    plane.make_coordinator()
    for name in plane.names:
        plane.make_site(name)
    cards = [add_researcher(plane, name) for name in ("ada", "eve")]
    plane.admit(*(plane.card(name) for name in plane.names), *cards)
    for name in plane.names:
        plane.join(name)
    ada, eve = (join_researcher(plane, name) for name in ("ada", "eve"))
    roster, envelope = plane.roster()
    store = StudyStore(plane.coordinator)
    signed = [
        sign_study(home, study(name=name, sites=dict.fromkeys(plane.names, 40), expires="2099-01-01"), envelope)[0]
        for home, name in ((ada, "hands"), (eve, "feet"))
    ]
    stored = [store.submit(text, envelope, roster) for text in signed]
    plane.start()
    try:
        made = Door(plane, ada, eve, stored[0], stored[1])
        before = [item.read_state().model_dump(exclude={"updated"}) for item in stored]
        yield made
        serves(plane, 9_999)
        assert [item.read_state().model_dump(exclude={"updated"}) for item in stored] == before
        assert store.digests() == tuple(item.digest for item in stored)
        assert "Traceback" not in plane.log
        assert "PRIVATE KEY" not in plane.log
    finally:
        plane.stop()
