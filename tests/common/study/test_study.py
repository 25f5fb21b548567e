"""The study file: what is accepted, what is refused, and how it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dura_common.errors import InputError
from dura_common.study import Evaluation, Study, StudyDocument, parse_study


def test_a_valid_study_is_read_and_keeps_its_values(study_data: dict[str, Any]) -> None:
    """A study.toml comes back as the values that it holds."""
    study = parse_study(tomli_w.dumps(study_data).encode())
    assert study.data.window_samples == 256
    assert study.training.steps == 50
    assert study.sites == {"north": 40, "east": 40, "south": 40}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("privacy", "unit"), "window", "privacy.local.unit"),
        (("privacy", "epsilon"), 0, "privacy.local.epsilon"),
        (("privacy", "epsilon"), float("inf"), "privacy.local.epsilon"),
        (("privacy", "delta"), 0.05, "below 1 divided by the declared patients"),
        (("privacy", "participation"), 1.5, "privacy.local.participation"),
        (("privacy", "noise"), "a little", "privacy"),
        (("data", "band"), [4.0, 64.0], "high < sampling_rate/2"),
        (("data", "band"), [38.0, 4.0], "low < high"),
        (("data", "channels"), ["C3", "C3"], "channels must be distinct"),
        (("data", "channels"), ["C3"], "data.channels"),
        (("data", "classes"), ["left", "left"], "classes must be distinct"),
        (("data", "window_length"), 0.001, "two samples"),
        (("data", "minimum_patients"), 41, "fewer declared patients than data.minimum_patients at east, north, south"),
        (("sites",), {"north": 40}, "sites"),
        (("sites",), {"North Hospital": 40, "east": 40, "south": 40}, "sites"),
        (("aggregation", "minimum_sites"), 4, "only 3 sites are listed"),
        (("evaluation", "epsilon"), None, "evaluation.epsilon is missing"),
        (("evaluation", "split"), "recordings", 'must be "patients"'),
        (("training", "steps_per_round"), 0, "training.steps_per_round"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_a_study_that_cannot_be_meant_is_refused_with_the_place(
    study_data: dict[str, Any], path: tuple[str, ...], value: object, message: str
) -> None:
    """Every impossible value is refused by an error that names where it stands."""
    target = study_data
    for key in path[:-1]:
        target = target[key]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        parse_study(tomli_w.dumps(study_data).encode())


def test_noise_none_must_not_name_an_evaluation_budget(study_data: dict[str, Any]) -> None:
    """A study without noise has no epsilon anywhere, so that nobody reads a promise into it."""
    study_data["privacy"] = {"noise": "none"}
    with pytest.raises(InputError, match="has no meaning"):
        parse_study(tomli_w.dumps(study_data).encode())
    del study_data["evaluation"]["epsilon"]
    assert parse_study(tomli_w.dumps(study_data).encode()).privacy.noise == "none"


@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_never_raise_anything_but_an_input_error(content: bytes) -> None:
    """Whatever a file holds, the answer is a study or one InputError."""
    with pytest.raises(InputError, match="the study"):
        parse_study(content)


@given(total=st.integers(1, 500), every=st.integers(1, 600))
def test_the_last_round_is_always_evaluated_and_no_round_twice(total: int, every: int) -> None:
    """The learning curve ends with the last round, rises strictly and stays inside the study."""
    rounds = Evaluation(every=every).rounds(total)
    assert rounds[-1] == total
    assert list(rounds) == sorted(set(rounds))
    assert rounds[0] >= 1


def test_the_signed_document_survives_json(study_data: dict[str, Any]) -> None:
    """Encoding and decoding a document gives the same document."""
    document = StudyDocument(study=Study.model_validate(study_data), roster="ab" * 32)
    assert StudyDocument.model_validate_json(document.model_dump_json()) == document
    altered = json.loads(document.model_dump_json())
    altered["format"] = 2
    with pytest.raises(ValidationError, match="Input should be 1"):
        StudyDocument.model_validate(altered)
