"""What other members say of themselves only goes forward, or this site takes no part."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.consortium import Consortium

from dura_client.consortium.membership import Membership, load_membership
from dura_client.consortium.witness import MemberWentBack, NotHeard, Report, accept, load_witnessed, witness
from dura_client.site.home import SiteHome
from dura_common.errors import InputError, TrustError
from dura_common.secagg.wire import note_size
from dura_common.sums.heads import Head, Mark, Shown

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
OTHER = "ab" * 32


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Membership:
    """Return what the site in the east sees of a consortium of two."""
    consortium = Consortium(tmp_path_factory.mktemp("consortium"), ("east", "north"))
    consortium.make_all(datetime.now(UTC))
    return load_membership(consortium.site("east"))


def head(
    here: Membership, rows: int, mark: str = OTHER, *, serial: int | None = None, roster: str | None = None
) -> Head:
    """Return what the north says."""
    return Head(here.roster.serial if serial is None else serial, roster or here.digest, Mark(rows, mark))


def forget(here: Membership) -> None:
    """Begin anew."""
    here.home.witnessed.unlink(missing_ok=True)


NUMBERS = st.integers(0, 2**64 - 1)
MARKS = st.builds(Mark, st.integers(1, 2**64 - 1), st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex))
SHOWN = st.builds(Shown.of, st.lists(MARKS, min_size=1, max_size=4), NUMBERS)
NAMES = st.lists(st.sampled_from(["east", "north", "south", "west", "far"]), min_size=2, unique=True).map(sorted)


@given(data=st.data(), names=NAMES, serial=NUMBERS, own=MARKS)
def test_a_note_says_what_was_put_in(data: st.DataObject, names: list[str], serial: int, own: Mark) -> None:
    """A note has one size for a session, holds every report of its members and of nobody else, and no other is read."""
    name, *others = data.draw(st.permutations(names))
    seen = data.draw(st.dictionaries(st.sampled_from(others), SHOWN))
    said = Head(serial, hashlib.sha256(b"roster").hexdigest(), own, seen)
    note = Head(serial, said.roster, own, {**seen, "stranger": Shown.of([own])}).encode(name, names)
    assert len(note) == note_size(len(names)) == 80 + 72 * (len(names) - 1)
    assert Head.decode(note, name, names) == said
    for wrong in (note[:-1], note + b"\0", b"", note + bytes(72), note[:-72]):
        with pytest.raises(TrustError, match=f"has {len(note)} bytes"):
            Head.decode(wrong, name, names)


@given(reports=st.lists(MARKS, max_size=4, unique_by=lambda one: one.rows), ledger=st.lists(MARKS, max_size=4))
def test_what_is_shown_fits_a_ledger_that_holds_all_of_it(reports: list[Mark], ledger: list[Mark]) -> None:
    """A ledger fits if it stood at every report; one other mark or one report more, and it does not."""
    shown, held = Shown.of(reports), {one.rows: one for one in reports}
    assert shown.fits({**{one.rows: one for one in ledger}, **held})
    for one in reports:
        assert not shown.fits({rows: mark for rows, mark in held.items() if rows != one.rows})
        assert not shown.fits({**held, one.rows: Mark(one.rows, hashlib.sha256(one.mark.encode()).hexdigest())})


@given(note=st.binary(min_size=224, max_size=224))
def test_any_bytes_of_the_right_size_are_one_note(note: bytes) -> None:
    """Reading and writing are inverse to each other, so nobody can say one thing in two ways."""
    names = ("east", "north", "south")
    assert Head.decode(note, "north", names).encode("north", names) == note


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8))
def test_whoever_goes_forward_is_believed_and_whoever_goes_back_is_not(
    here: Membership, steps: list[tuple[int, bool]]
) -> None:
    """What an honest ledger said is kept, and less is refused; a refusal changes nothing."""
    forget(here)
    rows = 0
    for own, lies in steps:
        if lies and rows:
            kept = load_witnessed(here.home)
            with pytest.raises(MemberWentBack, match=r"the ledger of north"):
                witness(here, {"north": head(here, rows - 1)}, NOW)
            assert load_witnessed(here.home) == kept
        rows += own
        seen = {here.card.name: Shown.of([], rows)}
        said = replace(head(here, rows, hashlib.sha256(b"%d" % rows).hexdigest()), seen=seen)
        witness(here, {"north": said}, NOW)
    known = load_witnessed(here.home).of("north")
    assert known is not None
    assert known.rows == rows


def says(here: Membership, rows: int, confirmed: int) -> dict[str, Head]:
    """Return what the north says, and how far it confirms what this site has witnessed of it."""
    return {"north": replace(head(here, rows), seen={here.card.name: Shown.of([], confirmed)})}


def waiting(here: Membership) -> list[int]:
    """Return the reports of the north that this site keeps."""
    found = load_witnessed(here.home).of("north")
    assert found is not None
    return [one.rows for one in found.reports]


@pytest.mark.parametrize(("confirmed", "kept"), [(0, [3, 5, 9]), (2, [3, 5, 9]), (3, [5, 9]), (4, [5, 9]), (5, [9])])
def test_a_report_is_kept_until_its_sender_has_confirmed_it(here: Membership, confirmed: int, kept: list[int]) -> None:
    """What the north has found in its ledger goes, and what it has not heard of stays."""
    forget(here)
    for rows in (3, 5):
        witness(here, says(here, rows, 0), NOW)
    witness(here, says(here, 9, confirmed), NOW)
    assert waiting(here) == kept


def test_a_member_that_has_not_heard_this_site_is_waited_for(here: Membership) -> None:
    """Four reports wait; a fifth ends this site's part in the sum, until the north has confirmed what waits."""
    forget(here)
    for rows in (3, 4, 5, 6):
        witness(here, says(here, rows, 0), NOW)
    witness(here, says(here, 6, 0), NOW)  # the same again is no further report
    for _ in range(2):
        with pytest.raises(NotHeard, match="north did not receive what it said"):
            witness(here, says(here, 7, 0), NOW, {"north": Mark(2, OTHER)})
        assert waiting(here) == [3, 4, 5, 6]
    seen = load_witnessed(here.home).of("north")
    assert seen is not None
    assert seen.confirmed == Report(rows=2, mark=OTHER)  # the north is not kept from confirming in its turn
    witness(here, says(here, 8, 6), NOW)
    assert waiting(here) == [8]


def test_what_another_ledger_has_confirmed_is_not_confirmed(here: Membership) -> None:
    """Of a ledger that does not hold what was confirmed, nothing is said to be."""
    forget(here)
    witness(here, says(here, 3, 0), NOW, {"north": Mark(2, OTHER)})
    witnessed = load_witnessed(here.home)
    for ledger, confirmed in (({2: Mark(2, OTHER)}, 2), ({2: Mark(2, "cd" * 32)}, 0), ({}, 0)):
        shown = witnessed.shown(["north", "south"], lambda _numbers, ledger=ledger: ledger)  # type: ignore[misc]  # a default binds it
        assert shown == {"north": Shown.of([Mark(3, OTHER)], confirmed)}


def test_the_same_number_of_rows_with_another_mark(here: Membership) -> None:
    """Two ledgers of one length are two ledgers."""
    forget(here)
    witness(here, {"north": head(here, 3)}, NOW)
    witness(here, {"north": head(here, 3)}, NOW)
    with pytest.raises(MemberWentBack, match="two different ledgers with 3"):
        witness(here, {"north": head(here, 3, "cd" * 32)}, NOW)


def test_another_roster_of_the_same_serial(here: Membership) -> None:
    """A coordinator that shows different members to different hospitals is seen at once."""
    forget(here)
    with pytest.raises(MemberWentBack, match="another roster with serial"):
        witness(here, {"north": head(here, 3, roster=OTHER)}, NOW)
    assert load_witnessed(here.home).seen == ()
    later = here.roster.serial + 5
    witness(here, {"north": head(here, 3, serial=later, roster=OTHER)}, NOW)  # ahead: shown to people, no fault
    with pytest.raises(MemberWentBack, match="two different rosters with serial"):
        witness(here, {"north": head(here, 4, serial=later, roster="ef" * 32)}, NOW)
    with pytest.raises(MemberWentBack, match="followed roster"):
        witness(here, {"north": head(here, 4)}, NOW)


def test_an_officer_accepts_a_restored_member(here: Membership) -> None:
    """After that the next word is believed, and from there on it only grows again."""
    forget(here)
    witness(here, {"north": head(here, 9)}, NOW)
    with pytest.raises(InputError, match="has reported nothing"):
        accept(here.home, "south")
    assert accept(here.home, "north").rows == 9
    witness(here, {"north": head(here, 2)}, NOW)
    with pytest.raises(MemberWentBack, match="had 2 requests and draws and now has 1"):
        witness(here, {"north": head(here, 1)}, NOW)


def test_an_altered_file_is_no_clean_slate(here: Membership, tmp_path: Path) -> None:
    """A file that cannot be read ends the sum instead of believing anything."""
    del tmp_path
    here.home.witnessed.write_text('{"seen": [{"name": "north"}]}')
    with pytest.raises(InputError, match="file of the other members' reports"):
        witness(here, {"north": head(here, 0)}, NOW)
    forget(here)


def test_a_file_of_an_earlier_version_keeps_its_reports(here: Membership) -> None:
    """One report of each member was stored: an update forgets nobody who went back."""
    forget(here)
    old = {"name": "north", "serial": 1, "roster": here.digest, "rows": 9, "mark": OTHER, "told": 4}
    here.home.witnessed.write_text(json.dumps({"seen": [{**old, "when": NOW.isoformat()}]}))
    assert waiting(here) == [9]
    with pytest.raises(MemberWentBack, match="had 9 requests and draws and now has 8"):
        witness(here, {"north": head(here, 8)}, NOW)
    forget(here)


def hear(root: Path, name: str, times: int) -> None:
    """Report one member's ledger again and again, in a process of its own."""
    here = load_membership(SiteHome(root))
    for rows in range(1, times + 1):
        said = head(here, rows, hashlib.sha256(b"%d" % rows).hexdigest())
        witness(here, {name: replace(said, seen={here.card.name: Shown.of([], rows)})}, NOW)


def test_no_report_is_lost_when_several_processes_hear_reports(here: Membership) -> None:
    """Two runners, or a runner and a person at the command line, never write over each other's reports."""
    forget(here)
    names, times = [f"hospital-{number}" for number in range(3)], 10
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=hear, args=(here.home.path, name, times)) for name in names]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0] * len(names)
    assert {one.name: one.rows for one in load_witnessed(here.home).seen} == dict.fromkeys(names, times)
    forget(here)
