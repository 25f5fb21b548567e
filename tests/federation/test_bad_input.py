"""Bad input, one row each: the real command on a spoiled copy ends in one clear error, and nothing has changed.

What a running study meets (a full disk, an empty ledger) is in test_bad_times.py.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.federation.spoiled import (
    Clinics,
    answering,
    bare_planes,
    certify_server,
    certify_site,
    refused,
    secrets_of,
    state_of,
)
from tests.support.consortium import admit, agree
from tests.support.policies import approve_study
from tests.support.running import RunningConsortium

from dura_client.consortium import enrolment as at_site
from dura_client.site.home import SiteHome
from dura_server.consortium import authority as at_authority

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(300)]
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Row:
    """One attempt: what is typed, what must stay as it is, and how it must end."""

    words: tuple[object, ...]
    keeps: Path
    code: int
    says: tuple[str, ...]
    """Parts of message and hint: expected, got, what to do."""
    secrets: tuple[str, ...] = ()


Spoil = Callable[[Clinics, Path], AbstractContextManager[Row]]
ROWS: dict[str, Spoil] = {}


def row(spoil: Callable[[Clinics, Path], Iterator[Row]]) -> Spoil:
    """Put a way of spoiling into the table, under its function's name."""
    ROWS[spoil.__name__.replace("_", " ")] = contextmanager(spoil)
    return ROWS[spoil.__name__.replace("_", " ")]


@pytest.fixture(scope="module")
def clinics(tmp_path_factory: pytest.TempPathFactory) -> Clinics:
    """Return two hospitals with recordings; nothing runs."""
    made = Clinics(tmp_path_factory.mktemp("clinics"))
    made.make_all()
    return made


# Recordings


@row
def no_data(clinics: Clinics, folder: Path) -> Iterator[Row]:
    """A BIDS folder without a recording."""
    home = clinics.copy_of("north", folder)
    empty = folder / "empty"
    empty.mkdir()
    shutil.copy(clinics.recordings("north") / "dataset_description.json", empty)
    words = ("site", "data", "add", "new", empty, "--task", "motorimagery", "--home", home.path)
    yield Row(words, folder, 10, ("no recordings of the task 'motorimagery'", "Expected files such as"))


@row
def data_gone_after_registration(clinics: Clinics, folder: Path) -> Iterator[Row]:
    """The folder was there when it was registered."""
    home = clinics.copy_of("north", folder)
    digest = clinics.offer_to(home)
    shutil.rmtree(folder / "bids")
    yield Row(_review(home, digest), folder, 10, ("data set mi has no recordings", "Expected files such as"))


@row
def unreadable_recording(clinics: Clinics, folder: Path) -> Iterator[Row]:
    """One file of twelve is cut off."""
    home = clinics.copy_of("north", folder)
    path = next(folder.glob("bids/sub-005/eeg/*.edf"))
    path.write_bytes(path.read_bytes()[:200])
    place = str(path.relative_to(folder / "bids"))
    says = ("a recording of the data set mi cannot be read", place, "dura site data check mi")
    yield Row(_approve(home, clinics.offer_to(home)), folder, 10, says)


@row
def unknown_channel(clinics: Clinics, folder: Path) -> Iterator[Row]:
    """A name that no electrode has."""
    home = clinics.copy_of("north", folder)
    digest = clinics.offer_to(home, data={"channels": ["C3", "C4", "Q7"]})
    says = ("channels that the 10-05 system does not know: Q7", "such as C3", "dura site decline")
    yield Row(_review(home, digest), folder, 10, says)


@row
def no_patient_of_a_class(clinics: Clinics, folder: Path) -> Iterator[Row]:
    """A class that nobody was asked for."""
    home = clinics.copy_of("north", folder)
    digest = clinics.offer_to(home, data={"classes": ["left_hand", "feet"]})
    says = ("no patient of the data set mi has an event of feet", "--label CODE=CLASS")
    yield Row(_approve(home, digest), folder, 10, says)


# Ledger


@row
def more_than_the_ledger_holds(clinics: Clinics, folder: Path) -> Iterator[Row]:
    """An earlier study has spent most of it."""
    home = clinics.copy_of("north", folder)
    approve_study(home, clinics.offer_to(home, name="earlier"), "mi", datetime.now(UTC))
    says = ("0 patients would take part", "dura site decline")
    yield Row(_approve(home, clinics.offer_to(home)), folder, 12, says)


# Ports


@row
def coordinators_port_taken(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """Somebody listens there already."""
    planes = bare_planes(folder)
    with socket.create_server(("127.0.0.1", planes.settings.port)):
        says = (f"port {planes.settings.port} for the gateway cannot be used", "Choose another port")
        yield Row(_start_coordinator(planes), folder, 15, says)


# Authorities and certificates


@row
def another_authority_in_place_of_the_pinned_one(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """A file was replaced by one of another consortium."""
    planes, other = bare_planes(folder / "mine"), bare_planes(folder / "other")
    shutil.copy(other.coordinator.keys / "authority.pem", planes.site("north").consortium)
    says = ("not the authority that the roster names", "dura site join")
    yield Row(_start_site(planes), folder, 11, says)


@row
def admission_of_another_consortium(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """The site belongs to one already."""
    planes, other = bare_planes(folder / "mine"), RunningConsortium(folder / "other")
    other.root.mkdir()
    other.make_coordinator()
    card = at_site.load_card(planes.site("north"))
    (admitted,) = admit(other.coordinator, [card], other.root / "post", datetime.now(UTC))
    words = ("site", "join", admitted.path, "--yes", "--home", planes.site("north").path)
    yield Row(words, folder, 11, ("has already joined another consortium", "another --home"))


@row
def somebody_else_answers_at_the_coordinators_address(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """A server that another authority vouches for."""
    planes, other = bare_planes(folder / "mine"), bare_planes(folder / "other")
    with answering(planes, other.coordinator.keys / "server.pem", other.coordinator.keys / "server.key"):
        says = ("no valid certificate of this consortium's authority", "dura coordinator fingerprint")
        yield Row(_start_site(planes), folder, 11, says)


@row
def expired_certificate_of_a_site(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """Issued 900 days ago, good for 825."""
    planes = bare_planes(folder)
    certify_site(planes, datetime.now(UTC) - 900 * DAY)
    says = ("the certificate has expired: its limit is", "admit the site again", "dura site join")
    yield Row(_start_site(planes), folder, 11, says)


@row
def expired_certificate_of_the_coordinator(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """Issued 900 days ago, good for 825."""
    planes = bare_planes(folder)
    certify_server(planes.coordinator, datetime.now(UTC) - 900 * DAY)
    says = ("the certificate has expired: its limit is", "dura coordinator renew")
    yield Row(_start_coordinator(planes), folder, 11, says)


@row
def expired_certificate_of_a_running_coordinator(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """The operator has overlooked it; the site notices."""
    planes = bare_planes(folder)
    certify_server(planes.coordinator, datetime.now(UTC) - 900 * DAY)
    with answering(planes, planes.coordinator.keys / "server.pem", planes.coordinator.keys / "server.key"):
        yield Row(_start_site(planes), folder, 11, ("certificate has expired", "dura coordinator renew"))


# Clocks


@row
def site_ahead_when_it_made_its_card(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """The site's clock is a day ahead."""
    planes, late = bare_planes(folder), SiteHome(folder / "late")
    at_site.init(late, "late", None, datetime.now(UTC) + DAY)
    card = at_site.card_path(late, "late")
    home = planes.authority
    words = ("authority", "admit", card, "--yes", "--out", folder / "out", "--authority", home.path)
    yield Row(words, folder, 11, ("made in the future", "clocks of both machines"))


@row
def site_behind_when_it_joins(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """The site's clock is a day behind."""
    planes, late = bare_planes(folder), SiteHome(folder / "late")
    card = at_site.init(late, "late", None, datetime.now(UTC))
    tomorrow = datetime.now(UTC) + DAY
    (admitted,) = admit(planes.coordinator, [card], folder / "post", tomorrow)
    words = ("site", "join", admitted.path, "--yes", "--home", late.path)
    yield Row(words, folder, 11, ("not valid yet", "Check this machine's clock"))


@row
def site_behind_when_it_starts(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """A pinned roster from tomorrow."""
    planes = bare_planes(folder)
    homes = [planes.site(name) for name in ("north", "east")]
    at_authority.issue(planes.authority, None, datetime.now(UTC) + DAY)
    agree(planes.coordinator, homes)
    yield Row(_start_site(planes), folder, 11, ("roster was issued in the future", "Check this machine's clock"))


@row
def clocks_of_running_machines_apart(_clinics: Clinics, folder: Path) -> Iterator[Row]:
    """The coordinator's clock is two minutes behind."""
    planes = bare_planes(folder)
    keys = planes.coordinator.keys
    with answering(planes, keys / "server.pem", keys / "server.key", date=datetime.now(UTC) - timedelta(minutes=2)):
        says = ("s ahead of the coordinator's", "at most 6 s ahead or 300 s behind", "time server")
        yield Row(_start_site(planes), folder, 15, says)


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_is_one_clear_error_and_changes_nothing(clinics: Clinics, tmp_path: Path, name: str) -> None:
    """It says what was expected, what came and what to do; files are as they were; no secret and no patient is told."""
    with ROWS[name](clinics, tmp_path) as attempt:
        before = state_of(attempt.keeps)
        answer = refused(*attempt.words)
        assert state_of(attempt.keeps) == before
    for part in attempt.says:
        assert part in answer.message + "\n" + answer.hint
    assert answer.code == attempt.code
    for home in {path.parent for path in attempt.keeps.rglob("keys")}:
        assert not [line for line in secrets_of(home) if line in answer.output]


def _review(home: SiteHome, digest: str) -> tuple[object, ...]:
    return ("site", "review", digest, "--data", "mi", "--home", home.path)


def _approve(home: SiteHome, digest: str) -> tuple[object, ...]:
    return ("site", "approve", digest, "--data", "mi", "--yes", "--home", home.path)


def _start_site(planes: RunningConsortium) -> tuple[object, ...]:
    return ("site", "start", "--home", planes.site("north").path)


def _start_coordinator(planes: RunningConsortium) -> tuple[object, ...]:
    return ("coordinator", "start", "--detach", "--home", planes.coordinator.path)
