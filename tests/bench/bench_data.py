"""The door for data: what preparing, checking and long recordings cost.

The clock tells little on a machine with other work, so each line has processor seconds in its detail, and what is
compared is compared in processor time.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tests.bench.line import Line
from tests.support.running import TASK

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.eeg.bids import folder_of
from dura_client.data.eeg.recording import open_signals
from dura_client.data.prepare import prepare
from dura_client.data.simulated.hospitals import HOSPITALS
from dura_client.data.simulated.simulate import simulate
from dura_client.data.store.parallel import cores
from dura_common.study import SignalContract

PATIENTS = 40
"""Of each of four hospitals."""
TRIALS = 40
SEED = 1
KEY = b"b" * 32
CONTRACT = SignalContract(
    task=TASK,
    channels=("FC3", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "CP3", "CP4"),
    sampling_rate=128.0,
    band=(4.0, 38.0),
    window_start=0.5,
    window_length=2.0,
    classes=("left_hand", "right_hand"),
)
LABELS = {"west": {"1": "left_hand", "2": "right_hand"}}
SCALES = {"south": 1e-3}
HOURS, RATE, CHANNELS = 24, 512, 64
LONG = """
import json, resource, sys
from pathlib import Path
from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare
from tests.bench.bench_data import CONTRACT, KEY
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dataset = DataSet(name="long", root=sys.argv[1], task=CONTRACT.task)
contract = CONTRACT.model_copy(update={"minimum_patients": 1})
found = prepare(dataset, contract, cache=Path(sys.argv[2]), pseudonym_key=KEY)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_maxrss / 1024, before / 1024, len(found.patients[0].labels), used.ru_utime + used.ru_stime]))
"""


@contextmanager
def hospitals() -> Iterator[tuple[Path, list[DataSet]]]:
    """Lend a folder with the four simulated hospitals."""
    with tempfile.TemporaryDirectory() as name:
        root, found = Path(name), []
        for hospital in HOSPITALS:
            simulate(root / hospital, hospital, patients=PATIENTS, trials=TRIALS, seed=SEED)
            known = {"labels": LABELS.get(hospital, {}), "scale": SCALES.get(hospital, 1.0)}
            found.append(
                DataSet.model_validate({"name": hospital, "root": str(root / hospital), "task": TASK, **known})
            )
        yield root, found


def used(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that work takes by the clock, and in processor time with the processes that it waits for."""

    def processor() -> float:
        kinds = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(kind.ru_utime + kind.ru_stime for kind in kinds)

    begin, before = time.perf_counter(), processor()
    work()
    return time.perf_counter() - begin, processor() - before


def prepare_all(cache: Path, datasets: list[DataSet], workers: int) -> None:
    """Prepare the four hospitals."""
    for dataset in datasets:
        prepare(dataset, CONTRACT, cache=cache / dataset.name, pseudonym_key=KEY, workers=workers)


def read_all(datasets: list[DataSet]) -> None:
    """Read the EEG of the four hospitals, a minute at a time."""
    for dataset in datasets:
        folder = folder_of(dataset)
        for recording in folder.recordings:
            opened = open_signals(folder, dataset, recording)
            step = round(60 * opened.rate)
            for begin in range(0, opened.samples, step):
                opened.read(begin, min(begin + step, opened.samples))


def data_prepare() -> Line:
    """160 patients, on all cores."""
    with hospitals() as (root, datasets):
        clock, processor = used(lambda: prepare_all(root / "cache", datasets, cores()))
    return Line("data_prepare_s.160p", clock, "s", {"processor_s": processor, "cores": cores(), "goal": 20})


def data_prepare_vs_read() -> Line:
    """Processor time of preparing over that of reading the same recordings block by block, both in one process."""
    with hospitals() as (root, datasets):
        read_all(datasets)  # once, so that files lie in the system's memory for both
        reading = used(lambda: read_all(datasets))[1]
        preparing = used(lambda: prepare_all(root / "cache", datasets, 1))[1]
    detail = {"prepare_s": preparing, "read_s": reading, "goal": 5}
    return Line("data_prepare_vs_read", preparing / reading, "times", detail)


def data_check() -> Line:
    """160 recordings, looked at with a study."""
    with hospitals() as (_, datasets):
        clock, processor = used(lambda: [diagnose(dataset, CONTRACT) for dataset in datasets])
    return Line("data_check_s.160p", clock, "s", {"processor_s": processor, "goal": 30})


def write_long(root: Path) -> None:
    """Write one recording of a day as EDF: a minute of noise, again and again, with an event every ten seconds."""
    folder = root / "sub-01" / "eeg"
    folder.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "long", "BIDSVersion": "1.9.0"}')
    names = ["FC3", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "CP3", "CP4"]
    names += [f"{row}{number}" for row in ("AF", "F", "P", "PO", "TP", "FT") for number in range(1, 11)]
    names = list(dict.fromkeys(names))[:CHANNELS]
    count, seconds = len(names), HOURS * 3600
    fields = [
        ("0", 8), ("X X X X", 80), ("Startdate 01-JAN-2020 X X X", 80), ("01.01.20", 8), ("00.00.00", 8),
        (str(256 * (count + 1)), 8), ("", 44), (str(seconds), 8), ("1", 8), (str(count), 4),
    ]  # fmt: skip  # the header's fields in their order
    fields += [(name, 16) for name in names] + [("", 80)] * count + [("uV", 8)] * count
    fields += [("-3200", 8)] * count + [("3200", 8)] * count + [("-32000", 8)] * count + [("32000", 8)] * count
    fields += [("", 80)] * count + [(str(RATE), 8)] * count + [("", 32)] * count
    rng = np.random.default_rng(SEED)
    minute = rng.normal(0, 200, (60, count, RATE)).astype("<i2").tobytes()
    with (folder / f"sub-01_task-{TASK}_eeg.edf").open("wb") as stream:
        stream.write("".join(text.ljust(width) for text, width in fields).encode())
        for _ in range(seconds // 60):
            stream.write(minute)
    rows = [f"{at}\t0\t{('left_hand', 'right_hand')[at // 10 % 2]}" for at in range(10, seconds - 10, 10)]
    table = folder / f"sub-01_task-{TASK}_events.tsv"
    table.write_text("\n".join(["onset\tduration\ttrial_type", *rows]) + "\n")


def data_peak() -> Line:
    """A day of 64 channels at 512 Hz, prepared by a process of its own: the most memory that it had."""
    import json

    with tempfile.TemporaryDirectory() as name:
        write_long(Path(name) / "bids")
        words = [sys.executable, "-c", LONG, str(Path(name) / "bids"), str(Path(name) / "cache")]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    peak, before, windows, processor = json.loads(done.stdout)
    detail = {"before_mib": before, "windows": windows, "processor_s": processor, "goal": 1536}
    return Line("data_peak_mib.24h", peak, "MiB", detail)


BENCHES = {
    "data_prepare_s.160p": data_prepare,
    "data_prepare_vs_read": data_prepare_vs_read,
    "data_check_s.160p": data_check,
    "data_peak_mib.24h": data_peak,
}
