"""Who takes no part in a study, by name: for the data manager of this hospital alone, in a file that only they read."""

from __future__ import annotations

from pathlib import Path

from dura_client.data.prepare import pseudonym
from dura_client.data.registry import load_dataset
from dura_client.data.sources.subjects import subjects_of
from dura_client.review.review import Review
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.runtime.files import write_atomic


def write_left_out(home: SiteHome, dataset: str, result: Review, path: Path) -> int:
    """Write one line a patient, label and reason (tab-separated), readable by this account alone; return how many.

    Raises:
        InputError: the data set is not registered.
        StateError: the file exists.
        HostError: it cannot be written.
    """
    key = SiteKeys(home).pseudonym_key()
    subjects = subjects_of(load_dataset(home, dataset))
    labels = {pseudonym(subject, key): subject for subject in subjects}
    lines = sorted(
        f"sub-{labels.get(patient, '(no longer in the data set)')}\t{why}\n"
        for why, patients in result.left_out.items()
        for patient in patients
    )
    write_atomic(path, "".join(("participant_id\treason\n", *lines)).encode(), replace=False)
    return len(lines)
