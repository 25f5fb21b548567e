"""A recording is known again in another format and under another name, and nothing else looks like it."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mne_bids import BIDSPath, read_raw_bids, write_raw_bids
from tests.support.commands import dura, failed
from tests.support.consortium import Consortium
from tests.support.policies import approve_study
from tests.support.running import TASK
from tests.support.studies import WITHOUT_NOISE, Only, study

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.grade import Grade
from dura_client.data.prepare import prepare
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import simulate
from dura_client.data.store.fingerprint import as_rows, digest_of, from_rows, held_by_several, keyed, points
from dura_client.ledger.place import site_ledger
from dura_client.node.service import SiteService
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_client.sums.ports import Part
from dura_common.errors import PolicyError
from dura_common.messages import EvaluateRound, Refusal, RefusalReason, encode
from dura_common.policy import Policy
from dura_common.secagg import SessionParameters
from dura_common.study import SignalContract

KEY = b"k" * 32
NAMED = "{0}/eeg/{0}_task-motorimagery_eeg.edf"
CHANNELS = ("C3", "Cz", "C4")
NOW = datetime.now(UTC)


def recording(values: np.ndarray, names: tuple[str, ...] = CHANNELS) -> mne.io.BaseRaw:
    """Return a recording in memory; ``values`` in volts."""
    return mne.io.RawArray(values, mne.create_info(list(names), 256.0, "eeg"), verbose="error")


def content_digest(raw: mne.io.BaseRaw, channels: tuple[str, ...] = ()) -> bytes:
    """Return the plain digest of a whole recording in memory, 32 bytes: what a survey in blocks must give.

    Args:
        raw: in volts, as read.
        channels: in this order, those that the recording has; without any of them, all of its channels by name.
    """
    index = {name.lower(): place for place, name in enumerate(raw.ch_names)}
    wanted = [name.lower() for name in channels if name.lower() in index] or sorted(index)
    rows, columns = points(len(wanted), raw.n_times)
    return digest_of(wanted, raw.n_times, raw.get_data(picks=[index[name] for name in wanted])[rows, columns])


def signal(seed: int = 1, *, step: float = 0.0, samples: int = 20_000) -> np.ndarray:
    """Return noise of EEG's amplitude in volts, on the grid of an amplifier with such a step in microvolts."""
    values = np.random.default_rng(seed).normal(0.0, 20.0, (len(CHANNELS), samples))
    return (np.round(values / step) * step if step else values) * 1e-6


def refile(root: Path, source: str, target: str) -> None:
    """File one patient's recording under another patient's label."""
    shutil.copy(root / NAMED.format(source), root / NAMED.format(target))


@pytest.mark.parametrize("step", [0.5, 0.1, 0.05, 0.01, 50 / 1024, 1e5 / 2**21])
def test_an_amplifiers_steps_never_lie_on_a_border(step: float) -> None:
    """Errors of single precision and of a scale factor change no fingerprint, whatever the amplifier's step."""
    exact = signal(step=step)
    expected = content_digest(recording(exact))
    assert content_digest(recording(exact.astype(np.float32).astype(np.float64))) == expected
    assert content_digest(recording(exact * 1e3 * 1e-3)) == expected


def test_the_format_makes_no_difference(hospitals: Path, tmp_path: Path) -> None:
    """The simulator's EDF, written again as BrainVision and as BDF, keeps its fingerprint."""
    source = BIDSPath(root=hospitals / "north", subject="001", task=TASK, datatype="eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = read_raw_bids(source, verbose="error").pick("eeg").load_data(verbose="error")
        for name in ("BrainVision", "BDF"):
            target = BIDSPath(root=tmp_path / name, subject="9", task=TASK, datatype="eeg")
            write_raw_bids(raw.copy(), target, format=name, allow_preload=True, verbose="error")
            again = read_raw_bids(target, verbose="error").pick("eeg").load_data(verbose="error")
            assert content_digest(again) == content_digest(raw)


def test_channels_count_by_name_and_in_the_contracts_order() -> None:
    """Order and case of the file's channels, and channels outside the contract, do not matter; the samples do."""
    values = signal()
    expected = content_digest(recording(values), CHANNELS)
    turned = recording(np.vstack([values[::-1], signal(2)[:1]]), ("c4", "cz", "c3", "Oz"))
    assert content_digest(turned, CHANNELS) == expected
    assert content_digest(recording(values[::-1]), CHANNELS) != expected
    assert content_digest(turned) != content_digest(recording(values))
    assert content_digest(turned, ("T7",)) == content_digest(turned)


@given(first=st.integers(0, 2**32), second=st.integers(0, 2**32), samples=st.integers(1, 3000))
def test_other_recordings_have_other_fingerprints(first: int, second: int, samples: int) -> None:
    """Equal exactly for equal noise, also where one channel is flat in both, as a stored reference is."""
    one, two = signal(first, samples=samples), signal(second, samples=samples)
    one[0] = two[0] = 0.0
    same = content_digest(recording(one)) == content_digest(recording(two))
    assert same == (first == second)


def test_broken_values_are_no_error() -> None:
    """Values that are not numbers, and a recording without samples, have a fingerprint as well."""
    values = signal(samples=600)
    values[:, ::3] = np.nan
    values[:, 1::3] = np.inf
    assert len(content_digest(recording(values))) == 32
    assert len(content_digest(recording(values[:, :1]))) == 32


@given(patients=st.lists(st.lists(st.binary(min_size=32, max_size=32), max_size=4), max_size=4), again=st.booleans())
def test_recordings_of_several_patients_are_counted_once(patients: list[list[bytes]], again: bool) -> None:
    """The count is that of a search by hand, and storing fingerprints loses none."""
    if again and len(patients) > 1:
        patients = [*patients, patients[0] + patients[0] + patients[1]]
    everything = {fingerprint for patient in patients for fingerprint in patient}
    by_hand = [item for item in everything if sum(item in patient for patient in patients) > 1]
    assert held_by_several(patients) == len(by_hand)
    assert all(from_rows(as_rows(patient)) == tuple(patient) for patient in patients)


def test_stored_fingerprints_are_keyed_and_plain_ones_are_of_public_data_only(
    own_copy: Callable[[str], Path], tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """Two patients with one recording share a fingerprint that another site's key changes; the cache has no other."""
    root = own_copy("north")
    refile(root, "sub-001", "sub-002")
    prepared = prepare(registered(root), contract, cache=tmp_path / "a", pseudonym_key=KEY).patients
    assert held_by_several(patient.fingerprints for patient in prepared) == 1
    assert not any(patient.contents for patient in prepared)
    other = prepare(registered(root), contract, cache=tmp_path / "b", pseudonym_key=b"o" * 32).patients
    assert {p.fingerprints for p in prepared}.isdisjoint(p.fingerprints for p in other)
    public = prepare(registered(root, public=True), contract, cache=tmp_path / "a", pseudonym_key=KEY).patients
    assert [patient.fingerprints for patient in public] == [patient.fingerprints for patient in prepared]
    for patient in public:
        assert tuple(keyed(content, KEY) for content in patient.contents) == patient.fingerprints
    private = [path for path in (tmp_path / "a").glob("*/*/*") if not len(np.load(path / "contents.npy"))]
    assert len(private) == len(public)
    stored = b"".join(file.read_bytes() for path in private for file in path.glob("*.npy"))
    assert not any(content in stored for patient in public for content in patient.contents)


def test_the_check_says_whose_copy_it_is_and_what_to_do(
    own_copy: Callable[[str], Path], registered: Callable[..., DataSet]
) -> None:
    """A copy under another patient and one under the same patient are told apart; wrong units are no copies."""
    root = own_copy("north")
    refile(root, "sub-001", "sub-002")
    (fault,) = [item for item in diagnose(registered(root)).findings if item.code.startswith("COPY")]
    assert fault.grade is Grade.STOPS
    assert "counts as 2 patients" in fault.cause
    assert "studies with noise are refused" in fault.cause
    root = own_copy("west")
    for path in list((root / "sub-001" / "eeg").glob("*_task-motorimagery_*")):
        shutil.copy(path, path.with_name(path.name.replace("_task-motorimagery", "_task-motorimagery_run-2")))
    (fault,) = [item for item in diagnose(registered(root)).findings if item.code.startswith("COPY")]
    assert "one recording counts 2 times" in fault.cause
    tiny = diagnose(registered(root, scale=1e-6)).findings
    assert not any(item.code.startswith("COPY") for item in tiny)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Return a consortium whose hospital "north" has one recording under two of its patients."""
    made = Consortium(tmp_path_factory.mktemp("consortium"))
    made.make_all(NOW)
    root, north = made.root / "recordings", made.site("north")
    (north.keys / "pseudonym.key").write_bytes(b"harbour".ljust(32, b"*"))  # decides who is held out
    simulate(root, "north", patients=14, trials=6, seed=3)
    refile(root, "sub-003", "sub-007")
    for name, public in (("motor", False), ("open", True)):
        register(north, DataSet(name=name, root=str(root), task=TASK, public=public))
    rules = {"epsilon_per_study": 10, "epsilon_total": 20, "delta": 1e-3, "minimum_patients": 10, "minimum_sites": 2}
    write_policy(north, Policy(**rules, public_data_without_noise=True))
    return made


@pytest.mark.parametrize(("private", "data", "code"), [(True, "motor", 12), (False, "open", 0)], ids=["noise", "none"])
def test_a_study_with_noise_is_not_approved_over_a_copy(
    consortium: Consortium, private: bool, data: str, code: int
) -> None:
    """The refusal counts and names nobody; a study without noise on the same recordings may be approved."""
    changes = {"sites": {"north": 14, "east": 14}, "name": data, "expires": "2099-01-01"}
    changes["evaluation"] = Only(epsilon=8.0, held_out=0.4) if private else Only(held_out=0.4)
    offer, reference = consortium.offer(study(**changes, **({} if private else {"privacy": WITHOUT_NOISE})))
    home = consortium.site("north")
    receive_offer(home, offer, NOW)
    words = ("site", "approve", reference, "--data", data, "--yes", "--home", home)
    if not private:
        dura(*words, here=True)
    else:
        error = json.dumps(failed(*words, code=code, here=True).error)
        assert "recordings under more than one patient here: 1" in error
        assert not any(word in error for word in ("sub-", "003", "007"))


def test_no_approval_is_signed_over_a_copy(consortium: Consortium) -> None:
    """Without an approval the gate answers with one word and the ledger has nothing of the study."""
    offer, reference = consortium.offer(study(name="later", sites={"north": 14, "east": 14}, expires="2099-01-01"))
    home = consortium.site("north")
    receive_offer(home, offer, NOW)
    with pytest.raises(PolicyError, match="recordings under more than one patient here: 1"):
        approve_study(home, reference, "motor", NOW)
    service = SiteService(home, NoSums())
    request = EvaluateRound(study=reference, round=5, attempt=1, members=("east", "north"))
    assert service.answer(encode(request), np.zeros(3, np.float32)) == Refusal(reason=RefusalReason.NOT_APPROVED)
    assert not any(row.study == reference for row in site_ledger(home).entries())


class NoSums:
    """In place of the way to other sites: nobody may get so far."""

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Fail."""
        raise AssertionError(f"a vector of {params.length} was asked for from {part}")
