"""What a study may ask of data: every combination of source, cut and label is possible or refused with what is."""

from __future__ import annotations

from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError
from tests.support.studies import Only, study, study_data

from dura_common.errors import InputError
from dura_common.study import ConnectomeContract, SignalContract, Study, StudyDocument, TableContract, parse_study
from dura_common.study.data import POSSIBLE
from dura_common.study.validation import explain_validation

SIGNAL: dict[str, Any] = {
    "task": "rest",
    "channels": ["C3", "Cz", "C4"],
    "sampling_rate": 128.0,
    "band": [1.0, 30.0],
    "window_length": 2.0,
}
CONNECTOME: dict[str, Any] = {"source": "fmri", "task": "rest", "atlas": "HO", "regions": 20}
TABLE: dict[str, Any] = {"source": "table", "features": {"hippocampus": [1000.0, 6000.0], "cortex": [1.5, 3.5]}}
ASKED: dict[str, dict[str, Any]] = {
    "eeg": SIGNAL,
    "meg": {**SIGNAL, "source": "meg"},
    "fmri": CONNECTOME,
    "table": TABLE,
}
LINEAR = {"name": "linear", "unit_norm": False}


def of(**fields: Any) -> Study:
    """Return a study with this contract."""
    vectors = fields.get("source", "eeg") in {"fmri", "table"}
    value = fields.get("target") == "value"
    return study(
        data=Only({"classes": ["a", "b"], **fields} if not value else fields),
        **({"model": LINEAR} if vectors else {}),
        **({"evaluation": {"outputs": ["error", "fit"]}} if value else {}),
    )


def refusal(**fields: Any) -> str:
    """Return how a study with this contract is refused."""
    with pytest.raises(ValidationError, match="Study") as caught:
        of(**fields)
    return explain_validation(caught.value, what="the study").message


@pytest.mark.parametrize("source", ["eeg", "meg", "fmri", "table"])
@pytest.mark.parametrize("cut", ["events", "segments", "whole"])
@pytest.mark.parametrize("label", ["event", "annotation", "participant", "session", "next-session"])
def test_each_combination_is_possible_or_refused_with_those_that_are(source: str, cut: str, label: str) -> None:
    """A combination is in the table and makes a study, or the refusal lists what the source or the cut allows."""
    fields = {**ASKED[source], "cut": cut, "label": label}
    if label in {"participant", "session", "next-session"}:
        fields["column"] = "diagnosis"
        if cut == "events" and source in {"eeg", "meg"}:
            fields["within"] = ["tone"]
    allowed = POSSIBLE[source]  # type: ignore[index]  # the parameters are the keys
    if cut in allowed and label in allowed[cut]:  # type: ignore[index]
        assert of(**fields).data.outputs == 2
        return
    said = refusal(**fields)
    assert "possible: " in said
    for name in allowed.get(cut, allowed):  # type: ignore[call-overload]
        assert f'"{name}"' in said


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**SIGNAL, "modality": "eeg"}, 'the key "modality" is now called "source"'),
        ({**SIGNAL, "source": "ct"}, "source must be one of eeg, meg, fmri, table"),
        ({**SIGNAL, "cut": "segments", "label": "participant"}, "needs column"),
        ({**SIGNAL, "column": "age"}, "column has no meaning"),
        ({**SIGNAL, "cut": "segments", "label": "annotation", "window_start": 1.0}, "window_start has no meaning"),
        ({**SIGNAL, "window_step": 1.0}, "window_step has no meaning"),
        ({**SIGNAL, "within": ["tone"]}, "within has no meaning"),
        ({**SIGNAL, "label": "participant", "column": "age"}, "needs within"),
        ({**SIGNAL, "cut": "segments", "label": "annotation", "background": "c"}, "background must be one of"),
        ({**SIGNAL, "background": "a"}, "background must be one of"),
        ({**SIGNAL, "target": "value", "bounds": [0.0, 1.0]}, "needs a label of a column"),
        ({**TABLE, "column": "age", "target": "value"}, "needs bounds"),
        ({**TABLE, "column": "age", "target": "value", "bounds": [1.0, 0.0]}, "in this order"),
        ({**TABLE, "column": "age", "bounds": [0.0, 1.0]}, "bounds have no meaning"),
        ({**TABLE, "column": "cortex"}, "must not hold cortex"),
        ({**TABLE, "column": "age", "relative_to": "icv"}, "relative_to must be one of the features"),
        ({**TABLE, "column": "age", "classes": ["a"]}, "at least two classes"),
        ({**TABLE, "column": "age", "features": {"x": [2.0, 1.0]}}, "the bounds of x"),
        ({**CONNECTOME, "column": "age", "channels": ["C3", "C4"]}, "channels"),
        ({**SIGNAL, "leave_out": {"largest_rejected": 1.5}}, "leave_out.largest_rejected"),
        ({**ASKED["meg"], "leave_out": {"largest_interpolated": 0.5}}, "largest_interpolated has no meaning with MEG"),
        ({**ASKED["meg"], "channels": ["MEG 0113", "MEG0113"]}, "channels must be distinct"),
        ({**SIGNAL, "channels": ["C 3", "C4"]}, "channels"),
    ],
)
def test_what_has_no_meaning_is_refused(fields: dict[str, Any], message: str) -> None:
    """A key that the combination does not use is a mistake of the researcher, and is said."""
    assert message in refusal(**fields)


def test_each_source_has_its_own_shape() -> None:
    """Windows are channels by samples; a connectome has one number a pair of regions, a row one a feature."""
    assert of(**SIGNAL).data.shape == (3, 256)
    assert of(**CONNECTOME, column="diagnosis").data.shape == (1, 190)
    table = of(**TABLE, column="age", target="value", bounds=[0.0, 110.0]).data
    assert isinstance(table, TableContract)
    assert (table.shape, table.outputs, table.names) == ((1, 3), 1, ("cortex", "hippocampus"))


def test_blanks_in_names_of_sensors_do_not_count() -> None:
    """MEG 0113 and MEG0113 are one sensor, so a study has one digest whichever is written."""
    names = of(**{**ASKED["meg"], "channels": ["MEG 0113", "MEG0112"]}).data.channels  # type: ignore[union-attr]
    assert names == ("MEG0113", "MEG0112")


def test_a_contract_comes_back_from_a_signed_document_as_it_was() -> None:
    """Every source survives the JSON of the signed document, and keeps its class."""
    for fields, kind in ((SIGNAL, SignalContract), (CONNECTOME, ConnectomeContract), (TABLE, TableContract)):
        made = of(**fields, **({} if kind is SignalContract else {"column": "age"}))
        document = StudyDocument(study=made, roster="0" * 64)
        back = StudyDocument.model_validate_json(document.model_dump_json())
        assert back == document
        assert isinstance(back.study.data, kind)


def test_vectors_need_a_linear_model_and_values_need_an_error() -> None:
    """A network for windows, and an accuracy of a value, are refused when the study is written."""
    with pytest.raises(ValidationError, match=r'model\.name must be "linear"'):
        study(data=Only({**TABLE, "column": "age", "classes": ["a", "b"]}))
    with pytest.raises(ValidationError, match='target = "value" needs "error"'):
        study(data=Only({**TABLE, "column": "age", "target": "value", "bounds": [0.0, 9.0]}), model=LINEAR)
    with pytest.raises(ValidationError, match='target = "class" needs "accuracy"'):
        study(evaluation={"outputs": ["error"]})


def test_a_study_of_an_older_dura_is_refused_in_a_sentence() -> None:
    """A signed study that still says modality names the key and what to do."""
    data = study_data(data={"modality": "eeg"})
    with pytest.raises(InputError, match="must be written and signed again"):
        parse_study(tomli_w.dumps(data).encode())
