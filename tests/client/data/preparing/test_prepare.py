"""Preparation on four different hospitals: the same contract, no name, no half-written cache, clear refusals."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import PreparedData, prepare, pseudonym
from dura_client.data.simulated.hospitals import HOSPITALS
from dura_common.errors import HostError, InputError
from dura_common.study import SignalContract

KEY = b"k" * 32


def files(folder: Path) -> dict[str, int]:
    """Return every file of prepared patients with its time of change; what notes their use apart."""
    found = [path for path in folder.glob("*/*/*/*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found if path.name != "entry.json"}


def equal(first: PreparedData, second: PreparedData) -> bool:
    """Tell whether two preparations hold the same patients."""
    return [patient.key for patient in first.patients] == [patient.key for patient in second.patients] and all(
        np.array_equal(a.windows, b.windows) and np.array_equal(a.labels, b.labels)
        for a, b in zip(first.patients, second.patients, strict=True)
    )


@pytest.mark.parametrize("name", HOSPITALS)
def test_every_hospital_reaches_the_contract(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract, name: str
) -> None:
    """Whatever montage, rate, reference, unit and coding: the same shapes, both classes, white covariance."""
    prepared = prepare(registered(hospitals / name), contract, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert len(prepared.patients) == 3
    for patient in prepared.patients:
        assert patient.windows.shape == (8, 9, 256)
        assert patient.windows.dtype == np.float32
        assert np.bincount(patient.labels).tolist() == [4, 4]
        assert patient.recordings.tolist() == [0] * 8
        covariance = np.einsum("nct,ndt->cd", patient.windows, patient.windows) / (8 * 256)
        assert np.linalg.eigvalsh(covariance)[-1] < 1.05  # aligned: no direction stands out
        assert 0.7 < patient.windows.std() < 1.05


def test_names_of_patients_leave_no_trace(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """Keys are keyed hashes, sorted; the cache has no BIDS label in any name and is closed to other users."""
    cache = tmp_path / "cache"
    prepared = prepare(registered(hospitals / "west"), contract, cache=cache, pseudonym_key=KEY)
    keys = [patient.key for patient in prepared.patients]
    assert keys == sorted(pseudonym(f"{number:03d}", KEY) for number in (1, 2, 3))
    assert all(len(key) == 64 for key in keys)
    assert set(keys).isdisjoint(pseudonym(f"{number:03d}", b"x" * 32) for number in (1, 2, 3))
    assert not any("sub-" in path.name or path.name.startswith("00") for path in cache.rglob("*"))
    assert cache.stat().st_mode & 0o077 == 0


def test_the_cache_is_used_and_noticed_when_stale(
    own_copy: Callable[[str], Path], tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """A second run, even under another name, writes nothing; changed files or another contract are prepared anew."""
    root, cache = own_copy("west"), tmp_path / "cache"
    first = prepare(registered(root), contract, cache=cache, pseudonym_key=KEY)
    before = files(cache)
    assert equal(prepare(registered(root, name="renamed"), contract, cache=cache, pseudonym_key=KEY), first)
    assert files(cache) == before
    events = next(root.glob("sub-001/eeg/*_events.tsv"))
    events.write_text("\n".join(events.read_text().splitlines()[:-1]) + "\n")
    changed = prepare(registered(root), contract, cache=cache, pseudonym_key=KEY)
    assert sum(len(patient.labels) for patient in changed.patients) == 23
    assert set(before) < set(files(cache))
    narrow = contract.model_copy(update={"band": (8.0, 30.0)})
    assert not equal(prepare(registered(root), narrow, cache=cache, pseudonym_key=KEY), changed)


def test_a_crash_leaves_no_half_patient(
    hospitals: Path,
    tmp_path: Path,
    registered: Callable[..., DataSet],
    contract: SignalContract,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk between two files of a patient is one clear error; the next run completes the cache."""
    cache, real, calls = tmp_path / "cache", os.fsync, []

    def sync(descriptor: int) -> None:
        calls.append(1)
        if len(calls) == 12:  # in the middle of the second patient
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("dura_client.data.store.seal.os.fsync", sync)
    with pytest.raises(HostError, match="No space left"):
        prepare(registered(hospitals / "west"), contract, cache=cache, pseudonym_key=KEY)
    folders = list(cache.glob("*/*/*"))
    assert [sorted(file.name for file in path.iterdir()) for path in folders] == [
        ["broken.npy", "contents.npy", "entry.json", "fingerprints.npy", "labels.npy", "recordings.npy", "windows.npy"]
    ]
    monkeypatch.undo()
    assert len(prepare(registered(hospitals / "west"), contract, cache=cache, pseudonym_key=KEY).patients) == 3


def _prepare_shapes(dataset: DataSet, contract: SignalContract, cache: Path) -> list[tuple[int, ...]]:
    prepared = prepare(dataset, contract, cache=cache, pseudonym_key=KEY)
    return [patient.windows.shape for patient in prepared.patients]


def test_two_processes_may_prepare_at_once(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """A node and a command on the same data do not disturb each other."""
    work = [(registered(hospitals / "west"), contract, tmp_path / "cache")] * 2
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        answers = pool.starmap(_prepare_shapes, work)
    assert answers == [[(8, 9, 256)] * 3] * 2
    assert not list((tmp_path / "cache").rglob(".new-*"))


def test_memory_is_bounded_by_one_recording(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """The peak does not grow with the number of patients, and windows come as maps of files."""
    peaks = []
    for root in (hospitals / "east", tmp_path / "one"):
        if root.name == "one":
            shutil.copytree(hospitals / "east", root)
            for number in (2, 3):
                shutil.rmtree(root / f"sub-{number:03d}")
        dataset = registered(root, labels={})
        few = contract.model_copy(update={"minimum_patients": 1})
        tracemalloc.start()
        prepared = prepare(dataset, few, cache=tmp_path / f"cache-{root.name}", pseudonym_key=KEY)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert all(isinstance(patient.windows, np.memmap) for patient in prepared.patients)
    assert peaks[0] < 1.3 * peaks[1]


def test_wrong_units_are_refused_with_the_remedy(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """The hospital with wrong units learns the scale that mends it, and following the hint works."""
    with pytest.raises(InputError, match=r"unit of .* is wrong") as caught:
        prepare(registered(hospitals / "south", scale=1.0), contract, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert "--scale 0.001" in caught.value.hint
    assert not files(tmp_path / "cache")
    mended = prepare(registered(hospitals / "south", scale=1e-3), contract, cache=tmp_path / "c", pseudonym_key=KEY)
    assert len(mended.patients) == 3


@pytest.mark.parametrize("damage", ["truncated", "header", "emptied"])
def test_an_unreadable_recording_is_named(
    own_copy: Callable[[str], Path],
    tmp_path: Path,
    registered: Callable[..., DataSet],
    contract: SignalContract,
    damage: str,
) -> None:
    """The hint has the file's place below the folder, the message, which logs keep, has not; others are kept whole."""
    root = own_copy("north")
    path = next(root.glob("sub-003/eeg/*_eeg.edf"))
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:200], "header": b"\xff" * 600 + content[600:], "emptied": b""}[damage])
    with pytest.raises(InputError, match="a recording of the data set motor cannot be read") as caught:
        prepare(registered(root), contract, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert path.relative_to(root).as_posix() in caught.value.hint
    assert "sub-003" not in caught.value.message
    assert str(tmp_path) not in caught.value.message + caught.value.hint
    assert len(files(tmp_path / "cache")) == 2 * 6


def test_unknown_channels_are_refused_before_reading(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """A channel that no system knows is named, and nothing is prepared."""
    odd = contract.model_copy(update={"channels": ("C3", "C4", "Q7")})
    with pytest.raises(InputError, match="does not know: Q7"):
        prepare(registered(hospitals / "west"), odd, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert not (tmp_path / "cache").exists()


def test_too_few_patients_are_refused(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """The study's minimum holds, and the message does not tell the live count."""
    many = contract.model_copy(update={"minimum_patients": 4})
    with pytest.raises(InputError, match="fewer patients than the study demands, 4"):
        prepare(registered(hospitals / "west"), many, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert not (tmp_path / "cache").exists()


def test_a_class_without_events_is_named(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """Codes that nobody mapped leave a class empty: the hint says how to map them."""
    half = registered(hospitals / "west", labels={"1": "left_hand"})
    with pytest.raises(InputError, match=r"no patient .* has an event of right_hand") as caught:
        prepare(half, contract, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert "--label" in caught.value.hint


def test_no_data_is_one_clear_error(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """A task that nobody recorded, or a folder that went away."""
    rest = contract.model_copy(update={"task": "rest"})
    for dataset, asked in (
        (registered(hospitals / "west", task="rest"), rest),
        (registered(tmp_path / "nowhere"), contract),
    ):
        with pytest.raises(InputError, match="has no recordings of the task"):
            prepare(dataset, asked, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert not (tmp_path / "cache").exists()


def test_a_data_set_serves_the_task_that_it_was_registered_for(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """A study of another task is refused before anything is read, although every rule of the policy may pass."""
    rest = contract.model_copy(update={"task": "rest"})
    with pytest.raises(InputError, match="was registered for the task 'motorimagery', the study asks for 'rest'"):
        prepare(registered(hospitals / "west"), rest, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert not (tmp_path / "cache").exists()


def test_windows_beyond_the_recording_are_left_out(
    hospitals: Path, tmp_path: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """A window that would begin before the first sample or end after the last does not exist."""
    wide = contract.model_copy(update={"window_start": -4.0, "window_length": 8.0})
    prepared = prepare(registered(hospitals / "west"), wide, cache=tmp_path / "cache", pseudonym_key=KEY)
    assert all(0 < len(patient.labels) < 8 for patient in prepared.patients)
