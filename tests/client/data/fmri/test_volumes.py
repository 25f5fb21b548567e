"""Volumes and an atlas: the series of regions against numpy's and nilearn's own, and which file of a scan is taken."""

from __future__ import annotations

import gzip
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.data.fmri.scans import (
    AFFINE,
    ATLAS,
    FUNC,
    KEY,
    PREPROC,
    contract,
    edges,
    labels,
    means,
    registered,
    save,
    vectors,
    voxels,
    write,
)

from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.grade import Grade
from dura_client.data.prepare import prepare, pseudonym
from dura_client.data.sources.fmri import averaging
from dura_client.data.sources.fmri.atlas import load_atlas
from dura_client.data.sources.fmri.averaging import average
from dura_client.data.sources.fmri.volumes import find_volumes
from dura_common.errors import InputError


def test_a_connectome_of_volumes_is_that_of_the_regions_means(tmp_path: Path) -> None:
    """Scans of two patients give numpy's correlations of the means, regions in ascending order of their numbers."""
    scans = {"01": voxels(1), "02": voxels(2)}
    found = vectors(write(tmp_path / "site", scans), tmp_path / "cache")
    for label, values in scans.items():
        assert found[pseudonym(label, KEY)][0] == pytest.approx(edges(means(values)), abs=1e-6)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), volumes=st.integers(2, 30), held=st.integers(1, 31))
def test_series_are_the_same_however_many_volumes_are_held(
    tmp_path_factory: pytest.TempPathFactory, seed: int, volumes: int, held: int
) -> None:
    """Blocks of any number of volumes give the means that plain numpy gives."""
    root = tmp_path_factory.mktemp("scan")
    values = voxels(seed, volumes)
    scan = save(root / "sub-01_task-rest_bold.nii", values)
    save(root / ATLAS, labels())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaging, "BLOCK_BYTES", 8 * labels().size * held)
        assert average(scan, load_atlas(registered(root))).series == pytest.approx(means(values), rel=1e-9)


@pytest.mark.parametrize("stored", ["f", "i", "h"])
def test_series_are_nilearns(tmp_path: Path, stored: str) -> None:
    """NiftiLabelsMasker agrees, whatever type of number is stored."""
    from nilearn.maskers import NiftiLabelsMasker

    scan = save(tmp_path / "sub-01_task-rest_bold.nii", voxels(1).astype(stored))
    masker = NiftiLabelsMasker(labels_img=str(save(tmp_path / ATLAS, labels())), standardize=None, reports=False)
    found = average(scan, load_atlas(registered(tmp_path))).series
    assert found == pytest.approx(np.asarray(masker.fit_transform(str(scan))), rel=1e-5)


def test_a_scan_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most memory at a time is that of a few blocks, and far less than the scan."""
    shape, volumes = (24, 24, 20), 300
    atlas = np.zeros(shape, dtype=np.int32)
    atlas[2:20:5] = np.arange(1, 5).reshape(4, 1, 1)
    scan = save(tmp_path / "sub-01_task-rest_bold.nii.gz", np.zeros((*shape, volumes), dtype=np.int16) + 7)
    save(tmp_path / ATLAS, atlas)
    regions = load_atlas(registered(tmp_path))
    average(scan, regions)  # once, so that what libraries hold for themselves does not count
    monkeypatch.setattr(averaging, "BLOCK_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        average(scan, regions)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20 < 8 * atlas.size * volumes / 3


def test_an_atlas_on_another_grid_is_brought_to_the_scan(tmp_path: Path) -> None:
    """Each voxel takes the nearest label, as nilearn does it, and the check says that this was done."""
    from nilearn.maskers import NiftiLabelsMasker

    fine = labels().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = AFFINE[:3, 3] - AFFINE[:3, :3] @ np.full(3, 0.25)
    dataset = write(tmp_path / "site", {"01": voxels(1)})
    root = Path(dataset.root)
    fine_file = save(root / "fine.nii.gz", fine, affine)
    dataset = registered(root, "fine.nii.gz")
    found = average(root / FUNC.format("01"), load_atlas(dataset))
    assert found.series == pytest.approx(means(voxels(1)), rel=1e-6)
    masker = NiftiLabelsMasker(labels_img=str(fine_file), standardize=None, reports=False, resampling_target="data")
    assert found.series == pytest.approx(np.asarray(masker.fit_transform(str(root / FUNC.format("01")))), rel=1e-5)
    assert [note.code for note in found.notes] == ["ROI-GRID"]


def test_a_copy_is_known_whatever_its_packing_and_name(tmp_path: Path) -> None:
    """The same scan unpacked under another patient has the same fingerprint, with any atlas; another scan has not."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2)})
    root = Path(dataset.root)
    copy = root / FUNC.format("03").removesuffix(".gz")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(gzip.decompress((root / FUNC.format("01")).read_bytes()))
    (root / "participants.tsv").write_text("participant_id\tdx\nsub-01\ta\nsub-02\tb\nsub-03\ta\n")
    prints = {}
    for turn, dataset in enumerate((registered(root), registered(root, str(turned_atlas(root).name)))):
        data = prepare(dataset, contract(), cache=tmp_path / f"cache{turn}", pseudonym_key=KEY)
        prints[turn] = {patient.key: patient.fingerprints for patient in data.patients}
        assert prints[turn][pseudonym("01", KEY)] == prints[turn][pseudonym("03", KEY)]
        assert prints[turn][pseudonym("01", KEY)] != prints[turn][pseudonym("02", KEY)]
    assert prints[0] == prints[1]


def turned_atlas(root: Path) -> Path:
    """Write another atlas of four regions."""
    return save(root / "turned.nii.gz", labels()[::-1].copy())


def test_denoised_scans_count_more_than_preprocessed_ones_and_these_more_than_raw_ones(tmp_path: Path) -> None:
    """One kind serves everybody; who lacks it is named, and series that nobody adjusted are called so."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2), "03": voxels(3)})
    root = Path(dataset.root)
    assert {item.path.name for item in find_volumes(dataset).scans} == {
        Path(FUNC.format(f"0{k}")).name for k in (1, 2, 3)
    }
    for label in ("01", "02"):
        save(root / PREPROC.format(label), voxels(10))
    found = find_volumes(dataset)
    assert [item.path.relative_to(root).as_posix() for item in found.scans] == [
        PREPROC.format("01"),
        PREPROC.format("02"),
    ]
    assert [(item.code, item.place) for item in found.findings] == [
        ("ROI-CONF", "the data set"),
        ("ROI-TWO", FUNC.format("03")),
    ]
    save(root / PREPROC.format("01").replace("desc-preproc", "desc-denoised"), voxels(11))
    found = find_volumes(dataset)
    assert [item.subject for item in found.scans] == ["01"]
    assert {item.code for item in found.findings} == {"ROI-TWO"}


def test_the_space_in_the_names_chooses_the_file(tmp_path: Path) -> None:
    """Of two spaces, that of the atlas's own name is taken; without such a name the scan has two files too many."""
    dataset = write(tmp_path / "site", {"01": voxels(1)}, PREPROC)
    root = Path(dataset.root)
    other = save(root / PREPROC.format("01").replace("space-MNI", "space-T1w"), voxels(2))
    assert [item.code for item in find_volumes(dataset).findings] == ["ROI-CONF", "ROI-TWO"]
    for space, path in (("MNI", root / PREPROC.format("01")), ("T1w", other)):
        name = f"tpl-{space}_atlas-Four_dseg.nii.gz"
        shutil.copy(root / ATLAS, root / name)
        found = find_volumes(registered(root, name))
        assert [item.path for item in found.scans] == [path]
        assert [item.code for item in found.findings] == ["ROI-CONF"]
    shutil.copy(root / ATLAS, root / "tpl-Talairach_dseg.nii.gz")
    found = find_volumes(registered(root, "tpl-Talairach_dseg.nii.gz"))
    assert not found.scans
    assert [item.code for item in found.findings] == ["ROI-CONF", "ROI-SPACE"]


def test_originals_hidden_copies_and_other_tasks_are_no_scans(tmp_path: Path) -> None:
    """Nothing is taken from sourcedata, from hidden folders, or of another task; without any scan the task is named."""
    dataset = write(tmp_path / "site", {"01": voxels(1)})
    root = Path(dataset.root)
    for folder in ("sourcedata", ".git"):
        save(root / folder / FUNC.format("09"), voxels(9))
    save(root / FUNC.format("08").replace("rest", "faces"), voxels(8))
    assert [item.subject for item in find_volumes(dataset).scans] == ["01"]
    (root / FUNC.format("01")).unlink()
    with pytest.raises(InputError, match="no volumes of the task rest"):
        find_volumes(dataset)
    for study in (contract(), None):  # that sub-08 has a folder and no row stops nothing
        found = diagnose(dataset, study).findings
        assert {item.code for item in found if item.grade is not Grade.KNOW} == {"ROI-NONE"}


def test_sessions_and_runs_are_scans_of_their_own(tmp_path: Path) -> None:
    """Two visits with two runs each are four vectors of one patient."""
    names = [
        f"sub-01/ses-{visit}/func/sub-01_ses-{visit}_task-rest_run-{run}_bold.nii.gz" for visit in "ab" for run in "12"
    ]
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2)})
    root = Path(dataset.root)
    (root / FUNC.format("01")).unlink()
    for seed, name in enumerate(names):
        save(root / name, voxels(20 + seed))
    found = vectors(dataset, tmp_path / "cache")[pseudonym("01", KEY)]
    assert found == pytest.approx(np.stack([edges(means(voxels(20 + seed))) for seed in range(4)]), abs=1e-6)


def test_two_processes_prepare_what_one_prepares(tmp_path: Path) -> None:
    """Workers load the atlas themselves and give the same vectors."""
    dataset = write(tmp_path / "site", {f"0{number}": voxels(number) for number in range(1, 5)})
    one = vectors(dataset, tmp_path / "one")
    data = prepare(dataset, contract(), cache=tmp_path / "two", pseudonym_key=KEY, workers=2)
    assert {patient.key for patient in data.patients} == set(one)
    assert all(np.array_equal(np.array(patient.windows)[:, 0], one[patient.key]) for patient in data.patients)


def test_the_simulated_scans_are_the_same_each_time(tmp_path: Path) -> None:
    """The same seed writes the same bytes, and the scans carry the series that the simulated tables carry."""
    from dura_client.data.simulated.kinds import simulate_kind

    for name in ("first", "second"):
        simulate_kind(tmp_path / name, "volumes", "north", patients=2, trials=2, minutes=1, seed=3, progress=None)
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert len(files) >= 7
    assert all((tmp_path / "first" / one).read_bytes() == (tmp_path / "second" / one).read_bytes() for one in files)
