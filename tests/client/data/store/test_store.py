"""The store: nothing stale is used, nothing is done twice, damage is noticed, and what runs keeps what it was given."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.client.data.store.helpers import KEY, OwnCopy, Registered, digests, entries

from dura_client.data.prepare import Preparation, PreparedData, digest_of, prepare, pseudonym, restore
from dura_client.data.recordings.folder import Recording
from dura_client.data.store.entry import ABOUT, TEMPORARY
from dura_common.errors import InputError
from dura_common.study import SignalContract


def lift_channels_to_the_root(root: Path) -> Path:
    """Make one channels.tsv at the root serve all recordings, as inheritance allows; return it."""
    files = sorted(root.glob("sub-*/eeg/*_channels.tsv"))
    target = root / "task-motorimagery_channels.tsv"
    target.write_bytes(files[0].read_bytes())
    for path in files:
        path.unlink()
    return target


def test_a_bad_channel_marked_in_the_root_file_counts(make: Callable[..., PreparedData], own_copy: OwnCopy) -> None:
    """An inherited sidecar that changes changes the windows of every recording that it applies to."""
    root = own_copy("north")
    table = lift_channels_to_the_root(root)
    before = make(root)
    lines = table.read_text().splitlines()
    header = lines[0].split("\t")
    wanted = next(index for index, line in enumerate(lines) if line.split("\t")[0] == "C3")
    cells = lines[wanted].split("\t")
    cells[header.index("status")] = "bad"
    lines[wanted] = "\t".join(cells)
    table.write_text("\n".join(lines) + "\n")
    after = make(root)
    assert after.made == 3
    assert not set(digests(before).values()) & set(digests(after).values())


@pytest.mark.parametrize("file", ["task-motorimagery_eeg.json", "sub-001/sub-001_events.json", "sub-001/eeg/eeg.json"])
def test_a_sidecar_at_any_level_names_the_entry(
    make: Callable[..., PreparedData], own_copy: OwnCopy, file: str
) -> None:
    """A file that appears at the root, at a patient or beside the recording is part of what the entry stands for."""
    root = own_copy("west")
    make(root)
    (root / file).write_text('{"EEGReference": "Cz"}')
    assert make(root).made == (3 if "/" not in file else 1)


def test_only_what_changed_is_prepared_again(make: Callable[..., PreparedData], own_copy: OwnCopy) -> None:
    """One changed recording costs one patient; another folder, name or time of the same content costs nobody."""
    root = own_copy("west")
    first = make(root)
    assert (first.made, first.mended) == (3, 0)
    moved = Path(shutil.copytree(root, root.parent / "elsewhere" / "west"))
    for path in moved.rglob("*"):
        os.utime(path)
    assert make(moved, name="other").made == 0
    signal_file = next(moved.glob("sub-002/eeg/*.eeg"), None) or next(moved.glob("sub-002/eeg/*_eeg.*[!n]"))
    content, times = bytearray(signal_file.read_bytes()), signal_file.stat()
    content[-1] ^= 1
    signal_file.write_bytes(content)
    os.utime(signal_file, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time of change as before
    again = make(moved)
    assert again.made == 1
    changed = {key for key, digest in digests(again).items() if digest != digests(first)[key]}
    assert changed <= {pseudonym("002", KEY)}


def test_a_new_patient_leaves_the_others_alone(make: Callable[..., PreparedData], own_copy: OwnCopy) -> None:
    """When patients join, nobody else is prepared again; nor does a column that the study does not read count."""
    root = own_copy("west")
    held = shutil.move(root / "sub-003", root.parent / "sub-003")
    table = root / "participants.tsv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith("sub-003")) + "\n")
    assert make(root).made == 2
    shutil.move(held, root / "sub-003")
    table.write_text("\n".join(lines) + "\n")
    assert make(root).made == 1
    table.write_text("\n".join(f"{line}\t{'sex2' if not number else 'F'}" for number, line in enumerate(lines)) + "\n")
    assert make(root).made == 0


def test_what_the_registration_says_counts(make: Callable[..., PreparedData], own_copy: OwnCopy) -> None:
    """Codes and factors are part of the name; a factor for one patient concerns that patient alone."""
    root = own_copy("west")
    make(root)
    assert make(root, labels={"1": "right_hand", "2": "left_hand"}).made == 3
    assert make(root, scales={"sub-002": 1.5}).made == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "lost", "about", "swapped"])
def test_a_damaged_entry_is_noticed_and_made_again(
    make: Callable[..., PreparedData],
    own_copy: OwnCopy,
    cache: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One flipped bit, a cut or lost file or another patient's entry: said in the log, without a name, and mended."""
    root = own_copy("west")
    first = digests(make(root))
    (entry,) = entries(cache, "002")
    windows = entry / "windows.npy"
    content = bytearray(windows.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 4
        windows.write_bytes(content)
    elif damage == "cut":
        windows.write_bytes(content[:-100])
    elif damage == "lost":
        (entry / "labels.npy").unlink()
    elif damage == "about":
        (entry / ABOUT).write_text("{")
    else:
        (other,) = entries(cache, "001")
        shutil.rmtree(entry)
        shutil.copytree(other, entry)
    with caplog.at_level(logging.WARNING):
        again = make(root)
    assert (again.made, again.mended) == (1, 1)
    assert digests(again) == first
    assert "damaged" in caplog.text
    assert entry.name not in caplog.text
    assert "002" not in caplog.text


def test_who_withdraws_while_recordings_are_read_leaves_no_copy(
    make: Callable[..., PreparedData], own_copy: OwnCopy, registered: Registered, contract: SignalContract, cache: Path
) -> None:
    """The ledger is asked again when a patient was prepared: the withdrawal has found nothing to delete before."""
    root = own_copy("west")
    before = make(root)
    wanted, (first, *others) = digests(before), sorted(digests(before))
    shutil.rmtree(cache)
    answers = iter([(), ()])  # at the beginning, and before the first patient is read
    found = dict(
        restore(
            registered(root),
            contract,
            wanted,
            folder=cache / before.folder,
            pseudonym_key=KEY,
            withdrawn=lambda: next(answers, (first,)),
        )
    )
    assert [key for key, patient in found.items() if patient is None] == [first]
    assert sorted(path.name for path in (cache / before.folder).iterdir()) == others


def test_a_running_study_keeps_what_was_approved(
    make: Callable[..., PreparedData], own_copy: OwnCopy, registered: Registered, contract: SignalContract, cache: Path
) -> None:
    """Changed recordings are prepared beside the approved ones; without the approved copy the patient counts zero."""
    root = own_copy("west")
    before = make(root)
    wanted = digests(before)
    events = next(root.glob("sub-001/eeg/*_events.tsv"))
    old = events.read_text()
    events.write_text("\n".join(old.splitlines()[:-1]) + "\n")
    assert digests(make(root)) != wanted

    def kept() -> dict[str, str | None]:
        folder = cache / before.folder
        found = restore(registered(root), contract, wanted, folder=folder, pseudonym_key=KEY, withdrawn=frozenset)
        return {key: None if patient is None else digest_of(patient) for key, patient in found}

    assert kept() == wanted
    shutil.rmtree(cache)
    assert kept() == {**wanted, pseudonym("001", KEY): None}
    events.write_text(old)
    assert kept() == wanted
    shutil.rmtree(cache)
    shutil.rmtree(root)
    assert kept() == dict.fromkeys(wanted)


def test_entries_of_an_earlier_dura_serve_their_studies(
    make: Callable[..., PreparedData], own_copy: OwnCopy, registered: Registered, contract: SignalContract, cache: Path
) -> None:
    """A patient's folder that holds the arrays, as 0.1.0 wrote it, is opened if its digest is the approved one."""
    root = own_copy("west")
    wanted = digests(make(root))
    for label in ("001", "002", "003"):
        (entry,) = entries(cache, label)
        target = cache / ("f" * 32) / pseudonym(label, KEY)
        shutil.copytree(entry, target)
        (target / ABOUT).unlink()
    shutil.rmtree(root)
    np.save(cache / ("f" * 32) / pseudonym("003", KEY) / "labels.npy", np.zeros(8, dtype=np.int64))
    found = dict(
        restore(registered(root), contract, wanted, folder=cache / ("f" * 32), pseudonym_key=KEY, withdrawn=frozenset)
    )
    assert {key for key, patient in found.items() if patient is not None} == {pseudonym(n, KEY) for n in ("001", "002")}


def test_recordings_that_change_while_they_are_read_are_refused(
    own_copy: OwnCopy, registered: Registered, contract: SignalContract, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed and what was read must be one content; nothing of the mixture is kept."""
    root = own_copy("west")
    target = next(root.glob("sub-001/eeg/*_events.tsv"))
    real = Preparation.__call__

    def touch(self: Preparation, job: tuple[list[Recording], Path], /) -> None:
        os.utime(target)
        real(self, job)

    monkeypatch.setattr(Preparation, "__call__", touch)
    with pytest.raises(InputError, match="changed while they were read"):
        prepare(registered(root), contract, cache=cache, pseudonym_key=KEY)
    monkeypatch.undo()
    assert not [path for path in cache.glob("*/*/*") if not path.name.startswith(TEMPORARY)]


@pytest.mark.long
@pytest.mark.parametrize("workers", [2, 5])
def test_several_processes_give_the_same(
    make: Callable[..., PreparedData], own_copy: OwnCopy, cache: Path, workers: int
) -> None:
    """Parallel work gives the same patients bit by bit; a fault in one is the same clear error, and others are kept."""
    root = own_copy("west")
    alone = digests(make(root))
    shutil.rmtree(cache)
    assert digests(make(root, workers=workers)) == alone
    shutil.rmtree(cache)
    header = next(root.glob("sub-002/eeg/*_eeg.vhdr"))
    header.write_text("nothing")
    with pytest.raises(InputError, match="cannot be read") as caught:
        make(root, workers=workers)
    assert "sub-002" in caught.value.hint
    assert len(list(cache.glob("*/*/*"))) >= 1
    assert not multiprocessing.active_children()


def test_the_memory_of_digests_names_nobody(make: Callable[..., PreparedData], own_copy: OwnCopy, cache: Path) -> None:
    """Names of files are kept as keyed hashes, and a memory that is broken is only read again."""
    root = own_copy("west")
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
    time.sleep(2.1)  # the change of the times themselves must be old enough to be remembered
    make(root)
    (memory,) = (cache / "files").glob("*.json")
    content = memory.read_text()
    assert len(json.loads(content)) > 3
    assert "sub-" not in content
    assert str(root) not in content
    memory.write_text('{"broken": ')
    assert make(root).made == 0
