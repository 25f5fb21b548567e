"""Nobody's spending is reset and nobody's withdrawal forgotten by what happens to a data set: real recordings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import answer, shown
from tests.support.ledger import DELTA, QUERY, allocate, begin, block
from tests.support.running import fix_pseudonyms

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare
from dura_client.data.registry import register
from dura_client.ledger.ledger import Ledger
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import write_policy
from dura_common.errors import BudgetError, InputError
from dura_common.policy import Policy
from dura_common.privacy import Gaussian
from dura_common.privacy.gdp import epsilon_of_mu
from dura_common.study import SignalContract

ONE = Gaussian(noise_multiplier=2.0)
CAP = epsilon_of_mu(0.6, DELTA * 0.875)
"""Room for one such study and not for two."""
Patients = tuple[str, ...]


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """Return a site with keys and a policy."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    SiteKeys(site).create()
    fix_pseudonyms(site)  # with a random key, in one of 64 runs nobody of three patients would train
    rules: dict[str, Any] = {"epsilon_per_study": 8, "epsilon_total": 20, "delta": DELTA}
    limits: dict[str, Any] = {"minimum_patients": 2, "minimum_sites": 2, "public_data_without_noise": False}
    write_policy(site, Policy(**rules, **limits))
    return site


@pytest.fixture
def patients(home: SiteHome, contract: SignalContract) -> Callable[[DataSet], Patients]:
    """Return a function that registers and prepares a data set and returns its patients' keys."""

    def keys(dataset: DataSet) -> Patients:
        register(home, dataset)
        key = SiteKeys(home).pseudonym_key()
        wanted = contract.model_copy(update={"minimum_patients": 1})
        return tuple(p.key for p in prepare(dataset, wanted, cache=home.cache, pseudonym_key=key).patients)

    return keys


def spend(home: SiteHome, patients: Patients, study_digest: str) -> None:
    """Set aside the whole budget of patients for one study."""
    allocate(Ledger(home.ledger), patients, study=study_digest, blocks=(block(draws=1, event=ONE),), epsilon_total=CAP)


def part_of(root: Path, target: Path, wanted: Callable[[int], bool]) -> Path:
    """Write a data set that holds some patients of another one."""
    target.mkdir()
    for position, item in enumerate(sorted(root.glob("sub-*"))):
        if wanted(position):
            shutil.copytree(item, target / item.name)
    for path in root.glob("*.*"):
        shutil.copy(path, target / path.name)
    return target


def test_renaming_copying_and_splitting_reset_nothing(
    home: SiteHome,
    patients: Callable[[DataSet], Patients],
    hospitals: Path,
    tmp_path: Path,
    registered: Callable[..., DataSet],
) -> None:
    """Under another name, from another folder, in halves or joined again, every patient is known and exhausted."""
    original = hospitals / "east"
    before = patients(registered(original, name="first"))
    spend(home, before, "a" * 64)
    moved = Path(shutil.copytree(original, tmp_path / "moved"))
    even = part_of(original, tmp_path / "even", lambda position: position % 2 == 0)
    odd = part_of(original, tmp_path / "odd", lambda position: position % 2 == 1)
    found: list[str] = []
    for number, root in enumerate((original, moved, even, odd)):
        again = patients(registered(root, name=f"other-{number}"))
        assert set(again) <= set(before)
        found += again
        with pytest.raises(BudgetError, match="over all studies"):
            spend(home, again, f"{number:064x}")
    assert sorted(found) == sorted([*before, *before, *before])
    assert 0 < Ledger(home.ledger).spent(DELTA) <= CAP


def test_new_recordings_and_new_patients_join_the_old_account(
    home: SiteHome,
    patients: Callable[[DataSet], Patients],
    own_copy: Callable[[str], Path],
    registered: Callable[..., DataSet],
) -> None:
    """A grown data set holds the old patients with what they spent; only the newcomer has a budget left."""
    root = own_copy("east")
    (third,) = [path for path in root.glob("sub-*") if path.name.endswith("3")]
    apart = root.parent / third.name
    shutil.move(third, apart)
    two = patients(registered(root, name="before"))
    spend(home, two, "a" * 64)
    shutil.move(apart, third)
    three = patients(registered(root, name="after"))
    assert set(two) < set(three)
    (newcomer,) = set(three) - set(two)
    with pytest.raises(BudgetError, match="over all studies"):
        spend(home, three, "b" * 64)
    spend(home, (newcomer,), "b" * 64)


def site(home: SiteHome, *words: object, code: int = 0) -> Any:
    """Run `dura site ...` here; return its object, also that of a failure with the expected code."""
    return answer("site", *words, "--home", home, code=code, here=True)


def test_a_withdrawal_outlives_every_data_set(
    home: SiteHome,
    patients: Callable[[DataSet], Patients],
    hospitals: Path,
    tmp_path: Path,
    registered: Callable[..., DataSet],
    contract: SignalContract,
) -> None:
    """Out of copies and of later data sets too; said twice, it is the same; prepared windows are deleted."""
    before = patients(registered(hospitals / "north", name="first"))
    answer = site(home, "withdraw", "sub-002", "--data", "first")
    assert (answer["withdrawn"], answer["new"], answer["studies"]) == (True, True, [])
    (gone,) = Ledger(home.ledger).withdrawn()
    assert gone in before
    assert list(home.cache.glob(f"*/{gone}")) == []
    assert site(home, "withdraw", "002", "--data", "first")["new"] is False
    moved = Path(shutil.copytree(hospitals / "north", tmp_path / "moved"))
    dataset = registered(moved, name="second")
    register(home, dataset)
    places: dict[str, Any] = {
        "cache": home.cache,
        "pseudonym_key": SiteKeys(home).pseudonym_key(),
        "leave_out": Ledger(home.ledger).withdrawn(),
    }
    prepared = prepare(dataset, contract, **places)
    assert {patient.key for patient in prepared.patients} == set(before) - {gone}
    with pytest.raises(InputError, match="fewer patients"):
        prepare(dataset, contract.model_copy(update={"minimum_patients": 3}), **places)
    shutil.rmtree(moved)  # the recordings are gone, the ledger remembers
    assert site(home, "withdraw", "sub-002", "--data", "second")["new"] is False


def test_the_answer_lists_what_cannot_be_undone(
    home: SiteHome,
    patients: Callable[[DataSet], Patients],
    hospitals: Path,
    registered: Callable[..., DataSet],
) -> None:
    """Studies, rounds, the last model and the price stand in the answer, and no label or key of the patient."""
    keys = patients(registered(hospitals / "south", name="motor"))
    ledger = Ledger(home.ledger)
    for digest, purpose in (("a" * 64, "train"), ("b" * 64, "evaluate")):
        made = block() if purpose == "train" else block("evaluate", 1, QUERY, 1)
        allocate(ledger, keys, held_out=keys, study=digest, blocks=(made,))
    for number in (1, 2):
        begin(ledger, number)
    begin(ledger, 1, study="b" * 64, purpose="evaluate")
    answer = site(home, "withdraw", "sub-001", "--data", "motor")
    trained, scored = answer["studies"]
    assert (trained["study"], trained["name"]) == ("a" * 64, None)
    assert trained["train_rounds"] == [1, 2]
    assert scored["evaluate_rounds"] == [1]
    assert answer["epsilon"] == ledger.spent(DELTA)
    assert any("trained models" in sentence and ": 1 " in sentence for sentence in answer["cannot_be_undone"])
    text = shown("site", "withdraw", "sub-001", "--data", "motor", "--home", home)
    for output in (json.dumps(answer), text):
        assert not any(secret in output for secret in ("sub-001", *keys))
    assert "had withdrawn before" in text
    assert site(home, "ledger", "show")["withdrawn"] == 1
    assert site(home, "ledger", "verify")["verified"]


@pytest.mark.parametrize("label", ["sub-99", "SUB-001", "", "../sub-01", "sub-"])
def test_an_unknown_patient_is_one_error_that_names_nobody(
    home: SiteHome, hospitals: Path, registered: Callable[..., DataSet], label: str
) -> None:
    """A label that nobody knows is refused without repeating it, and the ledger is not even made."""
    register(home, registered(hospitals / "north", name="first"))
    error = site(home, "withdraw", label, "--data", "first", code=InputError.exit_code)["error"]
    assert "nothing was changed" in error["message"]
    assert label == "" or label not in json.dumps({**error, "hint": ""})
    assert not home.ledger.exists()
    assert "registered: first" in site(home, "withdraw", "sub-001", "--data", "x", code=10)["error"]["message"]


def test_the_forecast_is_what_the_ledger_then_accepts(
    home: SiteHome,
    patients: Callable[[DataSet], Patients],
    hospitals: Path,
    registered: Callable[..., DataSet],
) -> None:
    """As many studies as were forecast are accepted one by one, and the next one is refused."""
    from dura_client.review.forecast import Question, forecast
    from dura_common.privacy import SampledGaussian

    keys = patients(registered(hospitals / "west", name="motor"))
    question = Question(participations=(0.5,), epsilons=(8.0, 10.0), steps=(50,))
    ledger = Ledger(home.ledger)
    fitting, dear = forecast(home, "motor", question).kinds
    assert fitting.studies >= 2
    assert dear.studies == 0  # above the cap of a study
    event = SampledGaussian(participation=0.5, noise_multiplier=fitting.noise_multiplier, steps=50)
    caps: dict[str, Any] = {"epsilon_total": 20.0, "epsilon_if_broken": 20.0}

    def run(number: int) -> None:
        allocate(ledger, keys, study=f"{number:064x}", blocks=(block(event=event),), **caps)

    run(1)
    after = forecast(home, "motor", question)
    assert after.kinds[0].studies == fitting.studies - 1
    for number in range(2, fitting.studies + 1):
        run(number)
    with pytest.raises(BudgetError, match="over all studies"):
        run(99)
    last = forecast(home, "motor", question)
    assert last.kinds[0].studies == 0
    assert max(last.largest_training, last.largest_evaluation) < 8.0


def test_the_forecast_command(home: SiteHome, hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """A table for people, choices for scripts, one error for impossible wishes."""
    register(home, registered(hospitals / "west", name="motor"))
    wishes = ["--participation", "0.5", "--epsilon", "2", "--epsilon", "4", "--steps", "40"]
    found = site(home, "ledger", "forecast", "--data", "motor", *wishes)
    assert [kind["epsilon"] for kind in found["kinds"]] == [2, 4]
    assert found["training_patients"] + found["held_out_patients"] == 3
    assert found["kinds"][0]["noise_multiplier"] > found["kinds"][1]["noise_multiplier"]
    text = shown("site", "ledger", "forecast", "--data", "motor", *wishes, "--home", home)
    assert "40 steps" in text
    assert "one more study may cost a training patient at most" in text
    assert site(home, "ledger", "forecast", "--data", "motor", "--steps", "0", code=10)["error"]["code"] == "input"
