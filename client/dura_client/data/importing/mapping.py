"""The mapping file: what the names in a clinic's files mean. `--draft` proposes it, a person edits it, import obeys it.

It names the clinic's own files and patients, so it is written for its owner alone and belongs beside the originals.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping as Dictionary
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from dura_client.data.recordings.source import UNITS
from dura_common.errors import InputError
from dura_common.study import WORD, Frozen, explain_validation

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$", max_length=64)]
UNKNOWN = "?"
"""What a draft writes where a person must answer."""


class Listed(Frozen):
    """One recording of the source."""

    file: str
    """Path below the source."""
    patient: str
    """Whose it is, as the clinic calls the person; recordings of one person must have one name."""
    session: Label | None = None
    run: Annotated[int, Field(ge=1)] = 1
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Factor to volts, if the file's unit is wrong."""

    @field_validator("file")
    @classmethod
    def _below_the_source(cls, file: str) -> str:
        if PurePath(file).is_absolute() or ".." in PurePath(file).parts:
            raise ValueError("a file is named by its path below the folder of the originals, without ..")
        return file


class Mapping(Frozen):
    """A whole mapping file."""

    format: Literal[1] = 1
    layout: Literal["plain", "chbmit", "siena", "tuh", "seizeit", "sleepedf"] = "plain"
    source: Literal["eeg", "meg"] = "eeg"
    """Which channels are imported: the electrodes on the scalp, or the sensors of an MEG."""
    task: Label
    line_frequency: Annotated[float, Field(gt=0, le=100)]
    reference: str = "n/a"
    cap: str = ""
    """A cap whose places give names to electrodes, such as biosemi128 or GSN-HydroCel-64_1.0; empty: none."""
    columns: tuple[Literal["age", "sex"], ...] = ()
    """What participants.tsv says of a patient, where the layout knows it."""
    channels: dict[str, str] = Field(default_factory=dict)
    """Label in the files to name in the 10-05 system; an empty name leaves the channel out. Sensors of an MEG keep
    their names and need no line."""
    units: dict[str, str] = Field(default_factory=dict)
    """Unit as the files write it to the unit that it means, for units that are not written as usual."""
    events: dict[str, str] = Field(default_factory=dict)
    """Code in the files to class; an empty class leaves the event out."""
    recordings: tuple[Listed, ...]

    @field_validator("units")
    @classmethod
    def _known_units(cls, units: dict[str, str]) -> dict[str, str]:
        unknown = sorted(unit for unit in units.values() if unit not in UNITS)
        if unknown:
            raise ValueError(f"units must be one of {', '.join(UNITS)}, got {', '.join(unknown)}")
        return units

    @field_validator("events")
    @classmethod
    def _words(cls, events: dict[str, str]) -> dict[str, str]:
        import re  # noqa: PLC0415  # one line of one validator

        wrong = sorted(name for name in events.values() if name and not re.match(WORD, name))
        if wrong:
            raise ValueError(f"a class is one word of letters, digits and _.-, got {', '.join(map(repr, wrong))}")
        return events

    @field_validator("recordings")
    @classmethod
    def _distinct(cls, recordings: tuple[Listed, ...]) -> tuple[Listed, ...]:
        targets = [(item.patient, item.session, item.run) for item in recordings]
        twice = sorted(
            {item.file for item, target in zip(recordings, targets, strict=True) if targets.count(target) > 1}
        )
        if twice:
            raise ValueError(f"patient, session and run must be distinct; these are not: {', '.join(twice[:8])}")
        return recordings


def read_mapping(content: bytes) -> Mapping:
    """Return the mapping in a file.

    Raises:
        InputError: it is no TOML, still holds a question, or something in it is not what it should be.
    """
    try:
        data = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"the mapping file is not valid TOML: {error}") from error
    open_questions = sorted(_questions(data))
    if open_questions:
        raise InputError(
            f"the mapping file still has open questions: {', '.join(open_questions[:8])}",
            hint=f"Put an answer in the place of each {UNKNOWN!r}. The comments say what is asked.",
        )
    try:
        return Mapping.model_validate(data)
    except ValidationError as error:
        raise explain_validation(error, what="the mapping file") from error


def _questions(data: object, where: str = "") -> list[str]:
    if isinstance(data, dict):
        return [found for key, value in data.items() for found in _questions(value, f"{where}.{key}" if where else key)]
    return [where] if data == UNKNOWN else []


def as_toml(
    head: str,
    values: Dictionary[str, str],
    tables: Dictionary[str, tuple[str, Dictionary[str, str]]],
    recordings: tuple[Listed, ...],
) -> str:
    """Return a mapping file with comments.

    Args:
        head: comment at the top.
        values: key to value as TOML, with a comment behind it if wanted.
        tables: name to a comment and its entries.
        recordings: all of them.
    """
    lines = [f"# {line}" if line else "#" for line in head.splitlines()] + [""]
    lines += [f"{key} = {value}" for key, value in values.items()]
    for name, (comment, entries) in tables.items():
        lines += ["", *(f"# {line}" for line in comment.splitlines()), f"[{name}]"]
        lines += [f"{quoted(key)} = {value}" for key, value in entries.items()]
    for item in recordings:
        lines += ["", "[[recordings]]", f"file = {quoted(item.file)}", f"patient = {quoted(item.patient)}"]
        if item.session is not None:
            lines.append(f"session = {quoted(item.session)}")
        lines.append(f"run = {item.run}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return a text as TOML writes it."""
    return json.dumps(text, ensure_ascii=True)
