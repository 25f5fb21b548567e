"""`dura site data` as a data manager and a script use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import answer

from dura_client.data.registry import list_datasets
from dura_client.site.home import SiteHome
from dura_common.errors import InputError, StateError


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """Return an initialised site."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    return site


def data(*words: object, code: int = 0) -> Any:
    """Run `dura site data ...` here; return its object, also that of a failure with the expected code."""
    return answer("site", "data", *words, code=code, here=True)


def test_simulate_add_list_check(home: SiteHome, tmp_path: Path) -> None:
    """The way of a data manager: make, register, look, check; the wrong unit is found and mended."""
    folder = tmp_path / "bids"
    assert data("simulate", folder, "--hospital", "south", "--patients", "2", "--trials", "4")["patients"] == 2
    added = data("add", "motor", folder, "--task", "motorimagery", "--home", home.path)
    assert added["data"]["simulated"] is True
    assert added["data"]["public"] is False
    assert [item["name"] for item in data("list", "--home", home.path)["data"]] == ["motor"]
    check = data("check", "motor", "--home", home.path, code=InputError.exit_code)["check"]
    assert check["events"] == {"left_hand": 4, "right_hand": 4}
    remedies = [item["remedy"] for item in check["findings"] if item["grade"] == "stops a study"]
    assert all("`--scale 0.001` all" in remedy for remedy in remedies)
    assert len(remedies) == 2
    data("update", "motor", "--scale", "1e-3", "--home", home.path)
    check = data("check", "motor", "--home", home.path)["check"]
    assert not check["stops"]
    assert {item["grade"] for item in check["findings"]} == {"worth knowing"}


def test_meanings_come_from_sidecars_and_the_command_line(home: SiteHome, own_copy: Any) -> None:
    """Levels of events.json are a recording's own, --label counts more, and --public is warned about."""
    root = own_copy("west")
    levels = {"trial_type": {"Levels": {"1": "left hand", "2": "right hand"}}}
    (root / "task-motorimagery_events.json").write_text(json.dumps(levels))
    words = ("add", "motor", root, "--task", "motorimagery", "--label", "2=feet", "--public", "--home", home.path)
    answer = data(*words)
    assert answer["data"]["labels"] == {"2": "feet"}
    assert "public" in answer["warnings"][0]
    assert set(data("check", "motor", "--home", home.path)["check"]["events"]) == {"left_hand", "feet"}


@pytest.mark.parametrize("labels", [["1"], ["=left_hand"], ["1="], ["1=a", "1=b"]])
def test_malformed_labels_are_refused(home: SiteHome, hospitals: Path, labels: list[str]) -> None:
    """A label is CODE=CLASS, once for each code; nothing is registered otherwise."""
    options = [word for label in labels for word in ("--label", label)]
    words = ("add", "motor", hospitals / "west", "--task", "motorimagery", *options, "--home", home.path)
    assert "--label" in data(*words, code=InputError.exit_code)["error"]["message"]
    assert list_datasets(home) == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--task", "rest"), InputError),
        (("--task", "motorimagery", "--scale", "0"), InputError),
        (("--task", "motorimagery", "--scale", "nan"), InputError),
        (("--task", "motor imagery"), InputError),
    ],
)
def test_wrong_arguments_register_nothing(
    home: SiteHome, hospitals: Path, words: tuple[str, ...], error: type[InputError]
) -> None:
    """One clear error each."""
    data("add", "motor", hospitals / "west", *words, "--home", home.path, code=error.exit_code)
    assert list_datasets(home) == []


def test_a_folder_that_is_not_bids_is_refused(home: SiteHome, tmp_path: Path) -> None:
    """An empty or absent folder is no data set."""
    data("add", "motor", tmp_path / "absent", "--task", "motorimagery", "--home", home.path, code=InputError.exit_code)
    assert list_datasets(home) == []


def test_names_are_used_once(home: SiteHome, hospitals: Path) -> None:
    """A second registration of a name is refused."""
    words = ("add", "motor", hospitals / "west", "--task", "motorimagery", "--home", home.path)
    data(*words)
    data(*words, code=StateError.exit_code)


def test_unknown_data_set(home: SiteHome) -> None:
    """Checking what is not registered says what to do."""
    answer = data("check", "motor", "--home", home.path, code=InputError.exit_code)
    assert "dura site data add" in answer["error"]["hint"]


def test_simulate_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    """Unknown hospitals and folders in use."""
    data("simulate", tmp_path / "x", "--hospital", "middle", code=InputError.exit_code)
    (tmp_path / "file").write_text("")
    data("simulate", tmp_path, code=StateError.exit_code)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
