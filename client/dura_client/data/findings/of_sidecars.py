"""Kinds of findings about what stands beside a recording: events, descriptions, tables of patients and visits."""

from __future__ import annotations

from dura_client.data.findings.grade import Grade, Kind

S, L, K = Grade.STOPS, Grade.LOSES, Grade.KNOW

MEND = "Mend the table in a text editor or with the program that wrote it, then check again."

OF_SIDECARS: dict[str, Kind] = {
    "SIDE-NONE": Kind(L, "a file beside the recording is missing or empty", "Add the file as BIDS describes it."),
    "SIDE-JSON": Kind(L, "a file is not valid JSON", "Mend the file at the place that is named, then check again."),
    "SIDE-TWO": Kind(
        L, "two sidecars apply at one level", "Keep one of them; BIDS allows one sidecar of a kind at each level."
    ),
    "SIDE-LOST": Kind(
        K,
        "a value comes from a sidecar at a higher level",
        "Nothing needs to be done: dura merges the levels as BIDS wants. Some other software does not.",
    ),
    "SIDE-RATE": Kind(
        L,
        "sidecar and recording disagree",
        "Find out which is right. The recording's own header was used; mend the sidecar.",
    ),
    "SIDE-TABLE": Kind(L, "a table is not a well-formed TSV", MEND),
    "SIDE-POS": Kind(
        K,
        "electrode positions that no head has, or of other channels",
        "Nothing needs to be done for dura, which uses the standard positions of the names. Mend electrodes.tsv.",
    ),
    "SIDE-SCANS": Kind(K, "scans.tsv and the folder disagree", "Mend scans.tsv: one row for each recording."),
    "EV-GAP": Kind(
        L,
        "events lie in a gap of the recording",
        "Check the clocks of recorder and stimulation; these events are lost.",
    ),
    "EV-END": Kind(
        L,
        "events lie beyond the end of the recording",
        "Check whether events and recording belong together, and whether the recording was cut.",
    ),
    "EV-NEG": Kind(L, "events before the start, or durations below zero", MEND),
    "EV-ONSET": Kind(
        L, "onsets that are not numbers", "Write onsets as seconds with a decimal point, then check again."
    ),
    "EV-UNIT": Kind(
        S,
        "onsets are not in seconds",
        "BIDS wants seconds from the first sample. Divide the onsets as the finding says and save the table again.",
    ),
    "EV-NA": Kind(L, "events without a name", "Fill the column trial_type, or remove these rows."),
    "EV-VALUE": Kind(
        K,
        "one event name has several values",
        "They are used as one class, by name. If the values mean different classes, write different names.",
    ),
    "EV-RUN": Kind(
        S,
        "one code means different things in different recordings",
        "Each recording's own Levels are used. Check them; then confirm with `--label CODE=CLASS` only if one meaning "
        "holds for all.",
    ),
    "EV-MAP": Kind(
        S,
        "event codes without a meaning",
        "Say what they mean: `dura site data update NAME --label CODE=CLASS`, once for each code.",
    ),
    "EV-CASE": Kind(
        L,
        "event names that differ in capitals or blanks only",
        "Write them alike, or map both: `dura site data update NAME --label CODE=CLASS`.",
    ),
    "EV-TWICE": Kind(L, "the same event twice, or two events at one moment", MEND),
    "EV-SORT": Kind(K, "events are not in order of time", "Nothing needs to be done: they were sorted."),
    "EV-SAMPLE": Kind(
        L,
        "onset and sample disagree",
        "Find out which column is right and mend the other. The onsets were used.",
    ),
    "EV-SEP": Kind(L, "the table of events is not a well-formed TSV", "Save the table with tabs between the columns."),
    "EV-ENC": Kind(
        K,
        "text is not in UTF-8",
        "Save the file as UTF-8. It was read as Latin-1: check names with accents or other letters.",
    ),
    "EV-MARK": Kind(K, "technical markers are not used as events", "Nothing needs to be done."),
    "EV-BITS": Kind(
        K,
        "codes of the status channel were cleaned",
        "Nothing needs to be done: the lower 16 bits count, the bits of the amplifier above them do not.",
    ),
    "EV-FILE": Kind(
        K,
        "events come from the recording itself",
        "Nothing needs to be done if these are the events. Otherwise write events.tsv, which goes before.",
    ),
    "EV-NONE": Kind(
        L,
        "a recording has no event",
        "Write the events, or move the recording out; without events it gives no example.",
    ),
    "PART-ROW": Kind(
        K,
        "folders and participants.tsv disagree",
        "Add the missing rows or remove the rows too many; studies that ask for a column need them.",
    ),
    "PART-DUP": Kind(
        S, "a patient is listed twice with different values", "Find out which row is right and remove the other."
    ),
    "PART-ID": Kind(
        L,
        "patients whose labels match only after repair",
        "Write the label in participants.tsv exactly as the folder has it, with `sub-`.",
    ),
    "PART-CODE": Kind(
        L, "values that look like codes for a missing value", "Write n/a where a value is missing, as BIDS wants."
    ),
    "ANS-NONE": Kind(
        L,
        "examples without an answer",
        "Fill the column if the answer is known, or map its codes with `--label CODE=CLASS`. Without an answer an "
        "example is not used.",
    ),
    "CUT-LOST": Kind(
        K,
        "windows were lost to gaps, BAD marks or values that are not numbers",
        "Nothing needs to be done: no window crosses them.",
    ),
    "ANS-COL": Kind(
        S, "no table has the column that the study asks for", "Say what it is called here with --column NAME=LOCAL."
    ),
    "CUT-RULE": Kind(
        L,
        "a recording breaks a rule of the study and is not used",
        "Mend the recording if you can; otherwise the study's own rule leaves it out.",
    ),
    "CUT-SPAN": Kind(
        L,
        "annotations without a duration cannot be cut into windows",
        "Write the duration of each annotation, in seconds, into the column duration.",
    ),
    "PART-BOUND": Kind(L, "values that cannot be, or are not numbers", MEND),
    "SES-ORDER": Kind(
        L,
        "visits whose order or list is unclear",
        "Mend sessions.tsv: one row for each visit's folder, with dates that follow the labels.",
    ),
    "TASK-OTHER": Kind(
        S,
        "the data set was registered for another task",
        "Register the recordings of the study's task as a data set of their own.",
    ),
    "SIZE-SMALL": Kind(
        K,
        "few patients",
        "Add patients if there are more; who is held out is drawn by a keyed hash and cannot be chosen.",
    ),
}
