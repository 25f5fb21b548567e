"""Registrations: kept, listed, refused; and what event codes mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dura_client.data.dataset import DataSet, is_simulated
from dura_client.data.eeg.beside.levels import class_name, meanings
from dura_client.data.registry import list_datasets, load_dataset, register
from dura_client.site.home import SiteHome
from dura_common.errors import InputError, StateError


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """Return an empty site folder."""
    return SiteHome(tmp_path / "site")


def test_round_trip(home: SiteHome, hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """What was registered comes back, and the list is sorted."""
    for name in ("b", "a"):
        register(home, registered(hospitals / "west", name=name))
    assert load_dataset(home, "b") == registered(hospitals / "west", name="b")
    assert [item.name for item in list_datasets(home)] == ["a", "b"]


def test_no_registration_is_replaced(home: SiteHome, hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """A second data set of the same name is refused and the first stays."""
    register(home, registered(hospitals / "west"))
    with pytest.raises(StateError, match="registered already"):
        register(home, registered(hospitals / "north"))
    assert load_dataset(home, "motor").root.endswith("west")


def test_only_bids_folders(home: SiteHome, tmp_path: Path, registered: Callable[..., DataSet]) -> None:
    """A folder without dataset_description.json is refused and leaves no registration."""
    with pytest.raises(InputError, match="not a BIDS folder"):
        register(home, registered(tmp_path))
    assert list_datasets(home) == []


@pytest.mark.parametrize("name", ["absent", "../motor", "a/b", ""])
def test_unknown_names_are_refused(
    home: SiteHome, hospitals: Path, registered: Callable[..., DataSet], name: str
) -> None:
    """A name that is not registered, or points elsewhere, says what there is instead."""
    register(home, registered(hospitals / "west"))
    with pytest.raises(InputError, match="registered: motor"):
        load_dataset(home, name)


@pytest.mark.parametrize("content", ["", "{}", '{"name": "x", "root": "/", "task": "t", "extra": 1}'])
def test_a_damaged_registration_is_one_clear_error(home: SiteHome, content: str) -> None:
    """A file that somebody edited badly is named."""
    home.data.mkdir(parents=True)
    (home.data / "motor.json").write_text(content)
    with pytest.raises(InputError, match=r"the registration motor\.json"):
        load_dataset(home, "motor")
    with pytest.raises(InputError, match=r"the registration motor\.json"):
        list_datasets(home)


def test_codes_of_the_field_are_known_and_overridable(registered: Callable[..., DataSet], tmp_path: Path) -> None:
    """Synonyms are understood, the data manager's word counts more, and foreign codes stay what they are."""
    dataset = registered(tmp_path, labels={"LH": "rest"})
    assert [dataset.class_of(code) for code in ("769", "rh", "LH", "boundary")] == [
        "left_hand",
        "right_hand",
        "rest",
        "boundary",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("left hand", "left_hand"),
        ("LH", "left_hand"),
        ("Rest", "rest"),
        ("eyes closed", "eyes_closed"),
        ("imagined movement of the left hand", ""),
        ("", ""),
        ("...", ""),
    ],
)
def test_only_plain_names_are_understood(text: str, name: str) -> None:
    """A sentence is not interpreted."""
    assert class_name(text) == name


def test_levels_are_read_from_a_sidecar() -> None:
    """Both shapes of a level count, trial_type goes before value, and nonsense counts nothing."""
    content = {
        "trial_type": {"Levels": {"1": "left hand", "2": {"Description": "Right hand"}, "9": 4}},
        "value": {"Levels": {"1": "rest", "3": "feet"}},
    }
    assert meanings(content) == {"1": "left_hand", "2": "right_hand", "3": "feet"}
    assert meanings({"trial_type": 3, "value": {"Levels": []}}) == {}


def test_real_data_are_not_called_simulated(tmp_path: Path) -> None:
    """Only the simulator's own mark counts."""
    assert not is_simulated(tmp_path)
    (tmp_path / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "another"}, "dura simulate"]}')
    assert not is_simulated(tmp_path)
