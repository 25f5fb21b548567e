"""Defects of files as such: absent, cut, damaged, or not what their name says."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import SUB02, Tree, signal, write_bdf, write_brainvision

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
ANNEX = b"/annex/objects/SHA256E-s392--0000000000000000000000000000000000000000000000000000000000000000.edf\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 392192\n"


def overwrite(content: bytes) -> Callable[[Tree], None]:
    """Return a defect that puts other bytes into the recording."""
    return lambda tree: (tree.recording.write_bytes(content), None)[1]


def dangling(target: str) -> Callable[[Tree], None]:
    """Return a defect that makes the recording a link to nowhere."""

    def plant(tree: Tree) -> None:
        tree.recording.unlink()
        tree.recording.symlink_to(target)

    return plant


quick("git-annex pointer instead of the recording", "FILE-PTR", overwrite(ANNEX))
quick("git-annex link whose object was not fetched", "FILE-PTR", dangling("../../.git/annex/objects/aa/bb/x.edf"))
quick("git-lfs pointer instead of the recording", "FILE-PTR", overwrite(LFS))
quick("link to a file that is gone", "FILE-LINK", dangling("/nowhere/at/all.edf"))
quick("empty file", "FILE-EMPTY", overwrite(b""))
quick("web page saved as recording", "FILE-EMPTY", overwrite(b"<!DOCTYPE html><html><body>Please log in</body></html>"))
quick("web page with a byte-order mark", "FILE-EMPTY", overwrite(b"\xef\xbb\xbf<html>403</html>"))
quick("file of zeros", "FILE-EMPTY", overwrite(b"\0" * 60_000))
quick("text saved as recording", "FILE-KIND", overwrite(b"onset\tduration\ttrial_type\n1\t0\tleft\n"))
quick("MATLAB file named .edf", "FILE-KIND", overwrite(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(4000)))
quick("HDF5 file named .edf", "FILE-KIND", overwrite(b"\x89HDF\r\n\x1a\n".ljust(4000)))
quick("GDF file named .edf", "FILE-KIND", overwrite(b"GDF 1.25".ljust(4000)))
quick("random bytes named .edf", "FILE-HEAD", overwrite(b"\x07\x99abcdefgh" * 500))


@add("packed recording that kept its name", "FILE-GZ")
def packed_inside(tree: Tree) -> None:
    """Pack the content only."""
    tree.recording.write_bytes(gzip.compress(tree.recording.read_bytes()))


def packed(ending: str) -> Callable[[Tree], None]:
    """Return a defect that packs the recording under another name."""

    def plant(tree: Tree) -> None:
        content = tree.recording.read_bytes()
        tree.recording.unlink()
        tree.recording.with_name(tree.recording.name + ending).write_bytes(gzip.compress(content))

    return plant


quick("recording packed as .edf.gz", "FILE-GZ", packed(".gz"))
quick("recording packed as .edf.zip", "FILE-GZ", packed(".zip"))


@add("BDF file named .edf", "FILE-KIND")
def bdf_as_edf(tree: Tree) -> None:
    """Write 24 bits."""
    write_bdf(tree.path("_eeg.bdf"), 2, [1, 2] * 3)
    tree.path("_eeg.bdf").rename(tree.recording)


@add("BrainVision header named .edf", "FILE-KIND")
def header_as_edf(tree: Tree) -> None:
    """Write a text header."""
    write_brainvision(tree.root / "x.vhdr", signal(2))
    for part in ("x.eeg", "x.vmrk"):
        (tree.root / part).unlink()
    (tree.root / "x.vhdr").rename(tree.recording)


def renamed(change: Callable[[Path], Path]) -> Callable[[Tree], None]:
    """Return a defect that moves the recording and everything beside it."""

    def plant(tree: Tree) -> None:
        for path in sorted((tree.root / SUB02).parent.iterdir()):
            relative = path.relative_to(tree.root)
            target = tree.root / change(relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    return plant


def only_recording(name: Callable[[str], str]) -> Callable[[Tree], None]:
    """Return a defect that renames the recording alone."""
    return lambda tree: (tree.recording.rename(tree.recording.with_name(name(tree.recording.name))), None)[1]


quick("ending in capitals (.EDF)", "FILE-CASE", only_recording(lambda name: name.replace(".edf", ".EDF")))
quick("ending half in capitals (.Edf)", "FILE-CASE", only_recording(lambda name: name.replace(".edf", ".Edf")))
quick("suffix in capitals (_EEG.edf)", "FILE-CASE", only_recording(lambda name: name.replace("_eeg", "_EEG")))
quick("task in other capitals (task-MI)", "FILE-CASE", only_recording(lambda name: name.replace("task-mi", "task-MI")))
quick(
    "patient in capitals (SUB-02)",
    "FILE-CASE",
    renamed(lambda path: Path(str(path).replace("sub-02", "SUB-02"))),
    place="SUB-02",
)
quick("folder in capitals (EEG/)", "FILE-CASE", renamed(lambda path: path.parent.parent / "EEG" / path.name))
quick("no folder eeg/", "FILE-KNOWN", renamed(lambda path: path.parent.parent / path.name))
quick(
    "recording in a folder of another kind (anat/)",
    "FILE-KNOWN",
    renamed(lambda path: path.parent.parent / "anat" / path.name),
)
quick("recording at the top of the data set", "FILE-KNOWN", renamed(lambda path: Path(path.name)))
quick(
    "session in the name and no folder for it",
    "FILE-KNOWN",
    renamed(lambda path: path.with_name(path.name.replace("sub-02_", "sub-02_ses-1_"))),
)
quick(
    "parts of the name in another order",
    "FILE-KNOWN",
    only_recording(lambda name: name.replace("_task-mi", "_run-1_task-mi")),
)
quick(
    "part of the name that BIDS does not know",
    "FILE-KNOWN",
    only_recording(lambda name: name.replace("_eeg", "_block-1_eeg")),
)
quick("name without a task", "FILE-KNOWN", only_recording(lambda name: name.replace("_task-mi", "")))
quick(
    "name of another patient than the folder's",
    "FILE-KNOWN",
    only_recording(lambda name: name.replace("sub-02", "sub-20")),
)
quick("name of a copy: _eeg (1).edf", "FILE-KNOWN", only_recording(lambda name: name.replace(".edf", " (1).edf")))
quick("name without its last part", "FILE-KNOWN", only_recording(lambda name: name.replace("_eeg", "")))
quick(
    "format that BIDS-EEG does not allow (.fif)",
    "FILE-KNOWN",
    only_recording(lambda name: name.replace(".edf", ".fif")),
)
quick(
    "format that BIDS-EEG does not allow (.gdf)",
    "FILE-KNOWN",
    only_recording(lambda name: name.replace(".edf", ".gdf")),
)


@add("one recording as .edf and .bdf", "FILE-TWO")
def two_formats(tree: Tree) -> None:
    """Write it a second time."""
    write_bdf(tree.path("_eeg.bdf"), 2, [1, 2] * 3)


@add("one recording as .edf and BrainVision", "FILE-TWO")
def two_formats_text(tree: Tree) -> None:
    """Write it a second time."""
    write_brainvision(tree.path("_eeg.vhdr"), signal(2))


@add("one recording under .edf and .EDF", "FILE-TWO")
def two_endings(tree: Tree) -> None:
    """Copy it under the other spelling."""
    shutil.copy(tree.recording, tree.recording.with_suffix(".EDF"))


@add("copy cut by 3000 bytes", "FILE-CUT")
def cut(tree: Tree) -> None:
    """Drop the last second and a bit."""
    tree.recording.write_bytes(tree.recording.read_bytes()[:-3000])


@add("copy cut to a half", "FILE-CUT")
def half(tree: Tree) -> None:
    """Drop half of the file."""
    content = tree.recording.read_bytes()
    tree.recording.write_bytes(content[: len(content) // 2])


@add("copy with a few bytes too many", "FILE-CUT")
def longer(tree: Tree) -> None:
    """Add rubbish."""
    tree.recording.write_bytes(tree.recording.read_bytes() + b"\0" * 7)


@add("copy cut right behind the header", "FILE-CUT")
def header_only(tree: Tree) -> None:
    """Keep the header and nothing else."""
    tree.recording.write_bytes(tree.recording.read_bytes()[: 256 * 12])


@add("line ends converted (LF to CR LF)", "FILE-CRLF")
def converted(tree: Tree) -> None:
    """Copy in text mode."""
    tree.recording.write_bytes(tree.recording.read_bytes().replace(b"\n", b"\r\n"))
