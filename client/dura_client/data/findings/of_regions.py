"""Kinds of findings about fMRI: series of regions, volumes and the atlas."""

from __future__ import annotations

from dura_client.data.findings.grade import Grade, Kind

S, L, K = Grade.STOPS, Grade.LOSES, Grade.KNOW

OF_REGIONS: dict[str, Kind] = {
    "ROI-KIND": Kind(
        L,
        "a file holds no series and no volumes over time",
        "Give one row for each volume and one column for each region of the atlas, or an image with four dimensions.",
    ),
    "ROI-ORDER": Kind(
        L,
        "series of another number of regions",
        "Give the series of the atlas that the study names: one column for each region, in the atlas's order.",
    ),
    "ROI-SHORT": Kind(L, "a scan has fewer volumes than the study wants", "Nothing needs to be done: it is not used."),
    "ROI-SAME": Kind(
        K,
        "regions hold the same series",
        "Check the atlas and the order of its columns. Their edge counts as a correlation of one.",
    ),
    "ROI-FLAT": Kind(
        K,
        "regions without values",
        "Look at the coverage of the scan. The edges of these regions count as zero.",
    ),
    "ROI-NONE": Kind(
        S,
        "there are no series and no volumes for the study",
        "Give the series, or register the volumes with an atlas: `dura site data update NAME --atlas ATLAS=FILE`.",
    ),
    "ROI-ATLAS": Kind(
        S, "the atlas is not the one that was registered or that the study names", "Register the study's atlas."
    ),
    "ROI-SPACE": Kind(
        L,
        "a scan and the atlas lie in different spaces",
        "Give volumes in the space of the atlas (fMRIPrep: --output-spaces), or an atlas in the space of the volumes.",
    ),
    "ROI-TWO": Kind(
        L,
        "one scan has several files, or not the kind of file that the others have",
        "Leave one file of each scan in the folder, of the same kind and space for every patient.",
    ),
    "ROI-LOST": Kind(
        K,
        "regions of the atlas have no voxel in the scan",
        "Look at the field of view of the scan. The study's own rule says how many regions may be lost.",
    ),
    "ROI-GRID": Kind(
        K,
        "the atlas was brought to the grid of the scan",
        "Nothing needs to be done if atlas and scan lie in the same space; small regions lose some voxels.",
    ),
    "ROI-NAN": Kind(K, "voxels without numbers", "Nothing needs to be done: a region is the mean of its other voxels."),
    "ROI-TIME": Kind(
        K,
        "the time between volumes is not the same in the image and in its description",
        "Correct the wrong one. Connectomes do not depend on it; other software does.",
    ),
    "ROI-CONF": Kind(
        K,
        "the series are not adjusted: movement and other confounds are still in them",
        "Give volumes from which your pipeline removed them (XCP-D: desc-denoised_bold), or its series. All hospitals "
        "of a study should do the same.",
    ),
}
