"""Kinds of findings about files as such: absent, cut, damaged, or not what their name says."""

from __future__ import annotations

from dura_client.data.findings.grade import Grade, Kind

S, L, K = Grade.STOPS, Grade.LOSES, Grade.KNOW

OF_FILES: dict[str, Kind] = {
    "FILE-PTR": Kind(
        L,
        "the content was not downloaded",
        "Fetch the content (`git annex get FILE`, `git lfs pull`, or copy the file from where it is kept).",
    ),
    "FILE-LINK": Kind(L, "a link leads nowhere", "Bring the target back, or replace the link by the file itself."),
    "FILE-DENIED": Kind(L, "the file cannot be opened", "Let the user who runs dura read the file."),
    "FILE-EMPTY": Kind(
        L,
        "the file holds no recording",
        "Copy the file again from where it was recorded; if it was downloaded, log in first.",
    ),
    "FILE-GZ": Kind(
        L, "the recording is compressed", "Unpack the file (`gunzip FILE`); dura reads recordings that are not packed."
    ),
    "FILE-KIND": Kind(
        L,
        "the content is not what the name says",
        "Rename the file so that its ending fits its content, or export the recording again.",
    ),
    "FILE-HEAD": Kind(
        L, "the header is broken", "Export the recording again from the amplifier's software, or leave it out."
    ),
    "FILE-CRLF": Kind(
        L,
        "line ends were converted",
        "Copy the original again in binary mode; git needs `*.edf binary` in .gitattributes, FTP needs `binary`.",
    ),
    "FILE-CUT": Kind(
        L,
        "the recording does not have the length that its header declares",
        "Copy the file again from where it was recorded. If there is no longer one, dura uses the complete part.",
    ),
    "FILE-OPEN": Kind(
        K, "the recording was never closed", "Nothing needs to be done: its length was taken from the file's size."
    ),
    "FILE-KNOWN": Kind(
        L,
        "files whose place or name BIDS does not know",
        "Rename them to sub-LABEL/[ses-LABEL/]eeg/sub-LABEL_[ses-LABEL_]task-TASK_[run-N_]eeg.ENDING, or move them "
        "out of the folder.",
    ),
    "FILE-CASE": Kind(
        L,
        "a name differs in capitals only from the one that BIDS wants",
        "Rename it; BIDS names are exact to the letter.",
    ),
    "FILE-TWO": Kind(
        L,
        "one recording in two formats",
        "Keep one of the files and move the other out of the folder. Until then neither is used.",
    ),
    "FILE-EPOCH": Kind(
        L, "the recording was cut into trials", "Give the continuous recording; windows are cut by the study."
    ),
    "FILE-PART": Kind(
        L,
        "one part of a recording in several files is missing or has another name",
        "Put the missing part beside the other files, or write its present name into the header file.",
    ),
    "FILE-SPLIT": Kind(
        K, "a recording lies in several files", "Nothing needs to be done: they are read as one recording."
    ),
    "FILE-READ": Kind(
        L,
        "the reader of this format failed",
        "Export the recording again, or leave it out; please report the reader's words, which hold no patient data.",
    ),
    "FILE-SHORT": Kind(
        K,
        "a recording is very short",
        "Check whether the recording was broken off; a study's windows may not fit into it.",
    ),
    "BV-MARK": Kind(
        L, "the marker file is missing", "Restore the .vmrk file under the name that the .vhdr file gives."
    ),
    "BV-SIZE": Kind(
        L,
        "the data file does not hold what the header declares",
        "Copy the three files again from one export; never edit the number of channels or the format by hand.",
    ),
    "GAP-FOUND": Kind(K, "the recording has gaps", "Nothing needs to be done: no window crosses a gap."),
    "GAP-HIDDEN": Kind(
        L,
        "gaps under a header that declares none",
        "Nothing needs to be done: events were placed by the clock of the data records. Software that trusts the "
        "header places them too late.",
    ),
    "GAP-BACK": Kind(
        S,
        "the times of the data records go back",
        "Export the recording again; the order of its parts is not known.",
    ),
    "HYP-PAIR": Kind(
        S,
        "a night and its hypnogram do not begin together",
        "Check that both are of one night; then give them the same start, or import the night without stages.",
    ),
    "HYP-USED": Kind(K, "stages come from a hypnogram in a file of its own", "Nothing needs to be done."),
    "IMP-LIST": Kind(
        K, "the mapping file does not list a recording", "Make a new draft, or add the recording to the mapping file."
    ),
    "HYP-ONLY": Kind(
        L,
        "the file holds annotations and no signal",
        "It belongs to a recording: lay it beside the recording of the same night, under a name that begins alike, and "
        "import both.",
    ),
    "DATE-BAD": Kind(
        K,
        "the date is missing or impossible",
        "Nothing needs to be done: recordings are ordered by session and run, never by date alone.",
    ),
    "ID-HEAD": Kind(
        K,
        "the file can identify a person",
        "Nothing of it leaves the site. Remove these fields if others can read the folder.",
    ),
    "ID-TEXT": Kind(
        K,
        "events hold free text",
        "Free text may name people. Map the codes that a study needs with `--label`; other texts are not used.",
    ),
    "READER-SAID": Kind(
        K,
        "the reader warned of something that dura does not know",
        "Look at the recording in the software that wrote it; please report the kind of file as well.",
    ),
}
