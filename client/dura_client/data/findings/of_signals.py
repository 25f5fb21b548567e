"""Kinds of findings about channels and samples, and about recordings that are alike."""

from __future__ import annotations

from dura_client.data.findings.grade import Grade, Kind

S, L, K = Grade.STOPS, Grade.LOSES, Grade.KNOW

EXPORT = "Export the recording again; the channels that are named are not used."

OF_SIGNALS: dict[str, Kind] = {
    "CH-NONE": Kind(
        L,
        "the recording has no channel of its kind",
        "Declare the channels' types in channels.tsv, or leave the recording out.",
    ),
    "CH-DUP": Kind(L, "several channels have one name", "Rename them in the amplifier's software and export again."),
    "CH-CAL": Kind(L, "channels without calibration", EXPORT),
    "CH-POL": Kind(
        K,
        "channels with an inverted scale",
        "Check with the recorder's software whether these channels are upside down there as well.",
    ),
    "CH-UNIT": Kind(
        S,
        "the unit of channels is not known",
        "Export the recording with the unit uV, or say what the stored numbers are: `dura site data update NAME "
        "--scale PLACE=FACTOR`.",
    ),
    "CH-UNIT2": Kind(
        L,
        "header and channels.tsv give different units",
        "Find out which is right and mend the other. The recording's own header was used.",
    ),
    "CH-ORDER": Kind(
        K,
        "channels.tsv lists other channels, or in another order",
        "Nothing needs to be done: rows were matched by name. Mend channels.tsv if a channel is missing there.",
    ),
    "CH-TYPE": Kind(
        L,
        "types or states of channels are missing or unknown",
        "Write EEG, EOG, ECG, EMG, TRIG or MISC "
        "in the column type of channels.tsv, and good or bad in the column status.",
    ),
    "CH-NAME": Kind(
        L,
        "channel names that the 10-05 system does not know",
        "Rename the channels to names such as C3 or FCz, or leave them: a channel without a position is not used.",
    ),
    "CH-ALIAS": Kind(
        K,
        "channel names were brought to the 10-05 system",
        "Nothing needs to be done if the list is right.",
    ),
    "CH-BIP": Kind(
        S,
        "the montage is bipolar",
        "Export the recording with one reference for all channels (referential), before any montage is applied.",
    ),
    "CH-ABC": Kind(
        S,
        "channel names are places of a cap, not of a head",
        "Export the recording with names of the 10-20 system; the maker of the cap lists which place is which.",
    ),
    "CH-IEEG": Kind(
        S, "the contacts look intracranial", "Recordings from inside the head cannot join a study of scalp EEG."
    ),
    "CH-EAR": Kind(
        K,
        "ears or mastoids are recorded",
        "Nothing needs to be done: they are not used, and no other channel is interpolated from them.",
    ),
    "CH-FILL": Kind(
        L,
        "channels of the study are interpolated",
        "Nothing can be done if they were not recorded; a study with fewer channels would fit better.",
    ),
    "CH-BAD": Kind(
        K,
        "MEG sensors are marked as bad",
        "Nothing needs to be done where no study asks for them. A recording in which a sensor of the study is bad is "
        "not used: sensors are not interpolated here. MaxFilter repairs them in the raw recording.",
    ),
    "CH-LACK": Kind(
        L,
        "MEG sensors of the study are missing or bad",
        "The recording is not used: sensors are not interpolated. A study with fewer sensors would fit better, or "
        "repair the recording before it is registered.",
    ),
    "MEG-SHIELD": Kind(L, "the recording needs MaxFilter first", "Run it through MaxFilter and give what that writes."),
    "MEG-STATE": Kind(
        K,
        "what was done to an MEG recording before, and what is not used of it",
        "Nothing needs to be done if all hospitals of a study do the same; tell the researcher where they do not.",
    ),
    "CH-MANY": Kind(
        L,
        "many channels are marked bad",
        "Check the marks. Bad channels are interpolated; too many of them leave little that was recorded.",
    ),
    "CH-REF": Kind(
        L,
        "channels were recorded against different references",
        "Export the recording with one reference for all channels.",
    ),
    "CH-FLAT": Kind(
        K,
        "channels are flat or far from all others",
        "Nothing needs to be done: of EEG they are interpolated from the others; of MEG they count as bad.",
    ),
    "CH-SWAP": Kind(
        L,
        "two channels look exchanged",
        "Compare the names with the recorder's own; if they are exchanged, mend them in the recording and export it "
        "again, or mark both channels bad in channels.tsv.",
    ),
    "CH-SAME": Kind(
        K,
        "channels hold the same samples",
        "Check the export and the cap (a bridge of gel makes two electrodes one). Both are used as they are.",
    ),
    "RATE-MIX": Kind(
        K,
        "channels or recordings with another or an odd sampling rate",
        "Nothing needs to be done: the EEG channels keep their own rate; slower or faster ones are not read.",
    ),
    "FILT-MIX": Kind(
        K,
        "the recorder filtered channels or recordings differently",
        "Nothing needs to be done where the study's band lies inside all filters.",
    ),
    "FILT-CUT": Kind(
        L,
        "the recorded band ends inside what a study may need",
        "Export without the recorder's filter if the raw recording still exists.",
    ),
    "LINE-NONE": Kind(
        K,
        "the line frequency is missing or is not the one that the data show",
        "Write PowerLineFrequency (50 or 60) into the _eeg.json or _meg.json; a line that is not declared is not "
        "filtered out.",
    ),
    "VAL-NAN": Kind(
        L,
        "samples that are not numbers",
        "Export the recording again. Windows near these samples are not used.",
    ),
    "VAL-CLIP": Kind(
        L,
        "the amplifier was at its limit",
        "Nothing can be done afterwards; choose a larger range when you record.",
    ),
    "VAL-SPIKE": Kind(
        L,
        "single values that nothing in a head gives",
        "Look at these moments in the recorder's software; mark them (BAD_spike in events.tsv, with a duration).",
    ),
    "VAL-NOISE": Kind(
        L,
        "the recording looks like noise",
        "Look at the recording: was the cap plugged in, and the amplifier not in its test mode? If so, leave it out.",
    ),
    "VAL-DC": Kind(
        K,
        "all channels share an offset",
        "Nothing needs to be done for a study, which filters it out. Ask who exported the file whether the values are "
        "right otherwise.",
    ),
    "VAL-HOLD": Kind(
        L,
        "stretches without a signal",
        "Check whether the recorder was paused, or a broken copy was filled up; windows there say nothing.",
    ),
    "VAL-NONE": Kind(L, "the recording holds no signal", "Move the recording out of the folder."),
    "VAL-UNIT": Kind(
        S,
        "amplitudes that no brain has at such sensors",
        "`dura site data update NAME --scale PLACE=FACTOR` corrects these recordings alone.",
    ),
    "COPY-SAME": Kind(
        S,
        "two patients hold one recording",
        "Find out whose recording it is and move the other copy out of the folder. If both patients are one person, "
        "file everything under one label.",
    ),
    "COPY-PROB": Kind(
        S,
        "two patients probably hold one recording",
        "Look at both recordings. If one is a cut, filtered or rescaled copy, move it out of the folder.",
    ),
    "COPY-OWN": Kind(
        L,
        "one patient's recording lies there twice",
        "Move one of the two out of the folder: it counts double.",
    ),
    "SAME-PERSON": Kind(
        K,
        "two labels may be one person",
        "Ask who they are. A person who is filed under two labels counts as two patients and is protected less.",
    ),
}
