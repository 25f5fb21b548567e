"""Scans and atlases that cannot be used as they are: each is named with its cause, and nothing is filled in silence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.client.data.fmri.scans import (
    AFFINE,
    ATLAS,
    FUNC,
    KEY,
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

from dura_client.data.dataset import DataSet, dataset_of
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.finding import Finding
from dura_client.data.prepare import pseudonym
from dura_client.data.sources.fmri.atlas import atlas_of, load_atlas
from dura_client.data.sources.fmri.averaging import average
from dura_common.errors import InputError

Damage = Callable[[Path], None]


def of_one(dataset: DataSet, label: str = "01") -> list[Finding]:
    """Return what the check says of one patient's scan."""
    return [item for item in diagnose(dataset, contract()).findings if f"sub-{label}" in item.place]


def cut_gz(path: Path) -> None:
    """Cut a packed file."""
    path.write_bytes(path.read_bytes()[:-500])


def cut_inside(path: Path) -> None:
    """Pack a file that was cut before it was packed."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-500]))


def spoiled_gz(path: Path) -> None:
    """Turn a bit in the middle of a packed file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def one_volume(path: Path) -> None:
    """Leave three dimensions."""
    save(path, voxels(1)[..., 0])


def few(path: Path) -> None:
    """Leave ten volumes."""
    save(path, voxels(1)[..., :10])


def not_packed(path: Path) -> None:
    """Give a file that is not packed the name of one that is."""
    path.write_bytes(gzip.decompress(path.read_bytes()))


def no_nifti(path: Path) -> None:
    """Pack something else."""
    path.write_bytes(gzip.compress(b"nothing of the kind" * 99))


def endless(path: Path) -> None:
    """Declare an impossible size."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[40:56] = np.array([4, *[32767] * 4, 1, 1, 1], dtype="<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def complex_numbers(path: Path) -> None:
    """Store amplitude and phase together."""
    save(path, voxels(1).astype(np.complex64))


def pointer(path: Path) -> None:
    """Leave the pointer of git-annex."""
    path.write_text("/annex/objects/MD5E-s1--0.nii.gz\n")


def elsewhere(path: Path) -> None:
    """Say that the scan lies in the scanner's own space, on another grid."""
    save(path, voxels(1), AFFINE @ np.diag([1.1, 1.1, 1.1, 1.0]), code=1)


def nowhere(path: Path) -> None:
    """Say nothing of where the scan lies, on another grid."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[252:256] = bytes(4)  # the codes of qform and sform
    path.write_bytes(gzip.compress(bytes(content)))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (cut_gz, "FILE-CUT"),
        (cut_inside, "FILE-CUT"),
        (spoiled_gz, "FILE-CUT"),
        (one_volume, "ROI-KIND"),
        (complex_numbers, "ROI-KIND"),
        (few, "ROI-SHORT"),
        (not_packed, "FILE-KIND"),
        (no_nifti, "FILE-HEAD"),
        (endless, "FILE-HEAD"),
        (pointer, "FILE-PTR"),
        (elsewhere, "ROI-SPACE"),
        (nowhere, "ROI-SPACE"),
    ],
)
def test_a_scan_that_cannot_be_used_is_named(tmp_path: Path, damage: Damage, code: str) -> None:
    """It gives no vector and says why; the other patient's scan is read all the same."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2), "03": voxels(3)})
    assert {item.code for item in of_one(dataset)} == set()
    damage(Path(dataset.root) / FUNC.format("01"))
    said = of_one(dataset)
    assert code in {item.code for item in said}
    assert {item.code for item in said} <= {code, "CUT-RULE"}
    found = vectors(dataset, tmp_path / "cache")
    assert set(found) == {pseudonym("02", KEY), pseudonym("03", KEY)}
    if code != "ROI-SHORT":
        assert diagnose(dataset).readable == 2


def test_a_plain_file_that_was_cut_is_named(tmp_path: Path) -> None:
    """The same holds without packing."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2)}, FUNC.removesuffix(".gz"))
    path = Path(dataset.root) / FUNC.removesuffix(".gz").format("01")
    path.write_bytes(path.read_bytes()[:-500])
    assert "FILE-CUT" in {item.code for item in of_one(dataset)}


def test_voxels_outside_the_scan_are_left_out_and_later_gaps_lose_the_region(tmp_path: Path) -> None:
    """What is not a number from the beginning is outside; a region with a gap later is lost; neither becomes zero."""
    outside, gap = voxels(1), voxels(3)
    outside[1, :2] = np.nan
    gap[2, 0, 0, 17] = np.inf
    dataset = write(tmp_path / "site", {"01": outside, "02": voxels(2), "03": gap})
    left = np.where(np.isnan(outside[..., 0]), 0, labels()).astype(np.int32)
    found = vectors(dataset, tmp_path / "cache")
    assert found[pseudonym("01", KEY)][0] == pytest.approx(edges(means(outside, left)), abs=1e-6)
    assert [item.code for item in of_one(dataset)] == ["ROI-NAN"]
    lost = found[pseudonym("03", KEY)][0]
    assert (lost == 0).sum() == 3
    assert lost[3:] == pytest.approx(edges(means(voxels(3)))[3:], abs=1e-6)
    assert [item.code for item in of_one(dataset, "03")] == ["ROI-FLAT"]


def test_a_region_without_voxels_keeps_its_column(tmp_path: Path) -> None:
    """A scan that ends before a region has no value for it; the others stay in their places, and it is said."""
    dataset = write(tmp_path / "site", {"01": voxels(1)[:4], "02": voxels(2), "03": voxels(3)})
    series = average(Path(dataset.root) / FUNC.format("01"), load_atlas(dataset)).series
    kept = [0, 2, 3]  # the slabs are 12, 3, 2001 and 7; that of 7 is cut off
    assert np.isnan(series[:, 1]).all()
    assert series[:, kept] == pytest.approx(means(voxels(1))[:, kept], rel=1e-6)
    assert {item.code for item in of_one(dataset)} == {"ROI-GRID", "ROI-LOST", "ROI-FLAT"}
    assert pseudonym("01", KEY) not in vectors(dataset, tmp_path / "cache", most_lost_regions=0.2)


@pytest.mark.parametrize(("header", "said"), [(2.0, 3.0), (2000.0, 2.0)])
def test_another_time_between_volumes_is_named(tmp_path: Path, header: float, said: float) -> None:
    """A description at the root counts as well as one beside the scan, the nearest most; both files stay usable."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2)})
    root = Path(dataset.root)
    save(root / FUNC.format("01"), voxels(1), seconds=header)
    (root / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": said}))
    (root / FUNC.format("02").replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": 2.0}))
    assert [item.code for item in of_one(dataset)] == ["ROI-TIME"]
    assert of_one(dataset, "02") == []
    assert len(vectors(dataset, tmp_path / "cache")) == 2


def test_milliseconds_are_read_as_such(tmp_path: Path) -> None:
    """A header that counts in milliseconds agrees with a description in seconds."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2)})
    path = Path(dataset.root) / FUNC.format("01")
    image = nib.load(path)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((3.0, 3.0, 3.0, 2000.0))
    nib.Nifti1Image(voxels(1), AFFINE, image.header).to_filename(path)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": 2.0}))
    assert of_one(dataset) == []


def half(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return probabilities."""
    return values.astype(np.float32) / 2


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (half(labels()), "not the numbers of regions"),
        (-labels(), "not the numbers of regions"),
        (np.stack([labels()] * 2, axis=3), "as one volume of NIfTI"),
        (np.minimum(labels(), 1), "1 regions; 3 are the fewest"),
    ],
)
def test_an_image_that_is_no_atlas_is_refused(tmp_path: Path, values: np.ndarray[Any, Any], match: str) -> None:
    """Probabilities, negative numbers, maps over a fourth axis and a mask are not registered."""
    save(tmp_path / ATLAS, values)
    with pytest.raises(InputError, match=match):
        atlas_of(tmp_path, "Four", ATLAS)


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "unpacked|as one volume"), (b"x" * 999, "unpacked"), (gzip.compress(b"y" * 999), "NIfTI")],
    ids=["empty", "not packed", "packed"],  # packed bytes hold the time: two workers would name the test differently
)
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    """Whatever it holds, the error names the file and says what an atlas is."""
    (tmp_path / ATLAS).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        atlas_of(tmp_path, "Four", ATLAS)
    assert ATLAS in caught.value.message


def test_an_atlas_with_one_volume_in_four_dimensions_and_in_nifti_2_is_read(tmp_path: Path) -> None:
    """Both are common forms of the same atlas."""
    nib.Nifti2Image(labels()[..., None], AFFINE).to_filename(tmp_path / ATLAS)
    found = load_atlas(registered(tmp_path))
    assert np.array_equal(found.labels, labels())
    assert found.numbers == (3, 7, 12, 2001)


def test_an_exchanged_atlas_is_refused_until_it_is_registered(tmp_path: Path) -> None:
    """Preparing and checking stop, since the regions would be others than the study means."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2)})
    save(Path(dataset.root) / ATLAS, labels()[::-1].copy())
    with pytest.raises(InputError, match="not the file that was registered"):
        vectors(dataset, tmp_path / "cache")
    for study in (None, contract()):
        found = diagnose(dataset, study)
        assert {item.code for item in found.findings} == {"ROI-ATLAS"}
        assert found.stops
    assert len(vectors(registered(Path(dataset.root)), tmp_path / "cache")) == 2


@pytest.mark.parametrize(
    ("changes", "match"), [({"atlas": "Other"}, "asks for the atlas Other"), ({"regions": 5}, "has 5 regions")]
)
def test_another_atlas_than_the_studys_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    """Its name and its number of regions are those of the study, or nothing is prepared."""
    dataset = write(tmp_path / "site", {"01": voxels(1), "02": voxels(2)})
    with pytest.raises(InputError, match=match):
        vectors(dataset, tmp_path / "cache", **changes)
    assert {item.code for item in diagnose(dataset, contract(**changes)).findings} == {"ROI-ATLAS"}


def test_an_atlas_belongs_to_volumes_alone() -> None:
    """Neither a table nor a mapping of series has one."""
    atlas = {"name": "Four", "file": ATLAS, "digest": "0" * 64}
    for other in ({"source": "table", "task": None}, {"source": "fmri", "task": "rest", "series": "series.tsv"}):
        with pytest.raises(InputError, match="it belongs to volumes of fMRI"):
            dataset_of(name="x", root="/x", atlas=atlas, **other)
