"""Where a coordinator serves is checked before anything is written, and can be changed afterwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.commands import dura, failed
from tests.support.consortium import Consortium, contents, local_settings
from tests.support.processes import free_port

from dura_common.consortium.identity import load_certificate
from dura_common.runtime.running import Lock
from dura_server.settings import load_settings

UNKNOWN = "no-such-host.invalid"


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port on which somebody listens."""
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        yield int(thief.getsockname()[1])


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return a founded consortium whose coordinator does not run."""
    made = Consortium(tmp_path, settings=local_settings(), moment=None)
    made.make_all()
    return made


def init(home: Path, *words: object, host: str = "127.0.0.1") -> tuple[object, ...]:
    """Return the words of the command."""
    return (
        "coordinator",
        "init",
        "--consortium",
        "test",
        "--host",
        host,
        *words,
        "--bind",
        "127.0.0.1",
        "--home",
        home,
    )


@pytest.mark.parametrize("option", ["--port", "--aggregation-port"])
def test_a_taken_port_is_said_before_anything_is_written(tmp_path: Path, taken: int, option: str) -> None:
    """The error names the port and what wanted it."""
    other = "--aggregation-port" if option == "--port" else "--port"
    home = tmp_path / "c"
    said = failed(*init(home, option, taken, other, free_port()), code=15, here=True).error
    assert f"port {taken} for the" in said["message"]
    assert not home.exists()
    dura(*init(home, option, taken, other, free_port(), "--unchecked"), here=True)
    assert home.exists()


def test_a_host_that_nobody_knows_is_said_before_anything_is_written(tmp_path: Path) -> None:
    """Only the hospitals' networks may know it, so the check can be left out."""
    home, ports = tmp_path / "c", ("--port", free_port(), "--aggregation-port", free_port())
    said = failed(*init(home, *ports, host=UNKNOWN), code=10, here=True).error
    assert f"the host name {UNKNOWN} cannot be resolved" in said["message"]
    assert "--unchecked" in said["hint"]
    assert not home.exists()
    dura(*init(home, *ports, "--unchecked", host=UNKNOWN), here=True)


def test_an_address_of_another_machine_is_said(tmp_path: Path) -> None:
    """This machine cannot listen there."""
    words = init(tmp_path / "c", "--port", free_port(), "--aggregation-port", free_port())
    said = failed(*words, "--bind", "192.0.2.1", code=15, here=True).error
    assert "cannot be used" in said["message"]
    assert not (tmp_path / "c").exists()


def test_ports_and_host_can_be_changed(consortium: Consortium) -> None:
    """The certificate has the new name; the authority is told to issue a roster if the addresses changed."""
    home = consortium.coordinator
    port = free_port()
    answer = dura("coordinator", "change", "--port", port, "--host", "localhost", "--home", home, here=True)
    assert answer["roster_needed"] is True
    assert (load_settings(home).port, load_settings(home).host) == (port, "localhost")
    server = load_certificate((home.keys / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert f"localhost:{port}" in home.service.read_text()
    dura("coordinator", "change", "--port", consortium.settings.port, "--host", "127.0.0.1", "--home", home, here=True)
    assert load_settings(home).port == consortium.settings.port


def test_a_change_that_cannot_be_changes_nothing(consortium: Consortium, taken: int) -> None:
    """A taken port, an unknown host, two equal ports, no word at all."""
    home = consortium.coordinator
    before = contents(home.path)
    where = ("--home", home)
    equal = load_settings(home).aggregation_port
    for words, code in (
        (("--port", taken), 15),
        (("--host", UNKNOWN), 10),
        (("--port", equal), 10),
        (("--port", 70_000), 10),
        (("--host", "two words"), 10),
        ((), 10),
    ):
        failed("coordinator", "change", *words, *where, code=code, here=True)
        assert contents(home.path) == before, words


def test_running_services_do_not_stand_in_their_own_way(consortium: Consortium) -> None:
    """Their ports are theirs; another one is checked all the same."""
    home, settings = consortium.coordinator, consortium.settings
    with socket.socket() as gateway, Lock(home.run):
        gateway.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        gateway.bind(("127.0.0.1", settings.port))
        gateway.listen()
        dura("coordinator", "change", "--aggregation-port", free_port(), "--home", home, here=True)
    assert load_settings(home).port == settings.port
