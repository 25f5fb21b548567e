"""Three hospitals that have approved both studies, in a folder that each world is a copy of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.attacks.draws.hospital import DELTA, NOW, PATIENTS, key_with, relabel
from tests.attacks.draws.meeting import CAP, SITES, World, studies
from tests.attacks.draws.whole.eyes import Eyes, look_of
from tests.support.consortium import Consortium
from tests.support.policies import approve_study, policy
from tests.support.running import TASK

from dura_client.data.dataset import DataSet
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import simulate
from dura_client.patients.cohort import load_cohort
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_common.consortium.roster import Roster
from dura_common.study import Study

Template = tuple[Path, dict[str, Study], Roster]
NEWCOMER, OTHERS = 18, "others"
"""The label of a patient whom nobody has approved, and the folder with other people's recordings: the newcomer's, and
some of somebody else under the label of patient 2."""


def make_template(root: Path) -> Template:
    """Make the hospitals in an empty folder, let them approve both studies, and return what was approved."""
    simulate(root / "bids", "north", patients=PATIENTS, trials=2, seed=3)
    simulate(root / OTHERS, "north", patients=2, trials=2, seed=4)
    relabel(root / OTHERS, 1, NEWCOMER)
    consortium = Consortium(root, SITES)
    consortium.make_all(NOW)
    digests: dict[str, Study] = {}
    for name in SITES:
        home = consortium.site(name)
        key = key_with(lambda out: 4 <= len(out) <= 5 and not out & {1, 2})
        (home.keys / "pseudonym.key").write_bytes(key)
        register(home, DataSet(name="motor", root=str(root / "bids"), task=TASK, simulated=True))
        rules: dict[str, Any] = {"epsilon_per_study": 10, "epsilon_total": CAP, "minimum_sites": 2}
        write_policy(
            home, policy(noise=("local", "shared"), epsilon_if_broken=60.0, minimum_patients=5, delta=DELTA, **rules)
        )
    for asked in studies():
        offer, reference = consortium.offer(asked)
        digests[reference] = asked
        for name in SITES:
            receive_offer(consortium.site(name), offer, NOW)
            approve_study(consortium.site(name), reference, "motor", NOW)
    return root, digests, consortium.roster()[0]


def approved_in(template: Template) -> Mapping[bytes, tuple[str, str]]:
    """Return the patients who were approved: by their look, the purpose and the key."""
    root, digests, _ = template
    home = Consortium(root, SITES).site(SITES[0])
    cohort = load_cohort(home, next(iter(digests.values())), "motor")
    sides = (("train", cohort.sides[0]), ("evaluate", cohort.sides[1]))
    return {look_of(patient): (purpose, key) for purpose, side in sides for key, patient in side}


def world_of(template: Template, copy: Path, approved: Mapping[bytes, tuple[str, str]] | None = None) -> World:
    """Return a world of its own in a new folder; with recordings of its own, since they may be changed."""
    root, digests, roster = template
    shutil.copytree(root, copy)
    for name in SITES:
        path = copy / name / "data" / "motor.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "root": str(copy / "bids")}))
    world = World(Consortium(copy, SITES), digests, roster, eyes=Eyes(approved or {}))
    for name in SITES:
        world.start(name)
    return world
