"""What a child process takes over from the shell that somebody started dura in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from dura_common.runtime.environment import PASSED, PASSED_PREFIXES, SEARCHED, clean_environment

SET_BY_DURA = {"PATH", "no_proxy", "NO_PROXY", "PYTHONSAFEPATH", "PYTHONUNBUFFERED"}
HOSTILE = {
    "PYTHONPATH": ".:/home/other",
    "PYTHONHOME": "/home/other",
    "PYTHONSTARTUP": "hook.py",
    "PYTHONWARNINGS": "error::hook.Warning",
    "LD_PRELOAD": "./hook.so",
    "OPENSSL_CONF": "./openssl.cnf",
    "FLWR_INTERNAL_GRPC_CONTROL_API": "1",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "roots.pem",
    "BASH_ENV": "hook.sh",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}


@given(st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), st.text(), max_size=5))
def test_only_named_variables_pass(random: dict[str, str]) -> None:
    """Whatever stands in the environment, a child gets what is on the list and what dura sets, and nothing else."""
    got = clean_environment(source={**random, **HOSTILE})
    for name in set(got) - SET_BY_DURA:
        assert name in PASSED | SEARCHED or name.startswith(PASSED_PREFIXES)
    assert "127.0.0.1:9" not in "".join(got.values())


def test_the_present_folder_is_searched_for_nothing() -> None:
    """Empty and relative parts of search paths, which mean the folder somebody stands in, are left out."""
    given = {"PATH": ":.:bin:/usr/bin::/bin", "LD_LIBRARY_PATH": ":/opt/lib:", "TMPDIR": "."}
    got = clean_environment(source=given)
    assert got["PATH"] == f"{Path(sys.executable).parent}:/usr/bin:/bin"
    assert got["LD_LIBRARY_PATH"] == "/opt/lib"
    assert "TMPDIR" not in got


def test_files_are_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names a file by a relative path means the same file to a child in another folder."""
    (tmp_path / "secret").touch()
    monkeypatch.chdir(tmp_path)
    got = clean_environment(source={"DURA_PASSPHRASE_FILE": "secret", "PGPASSFILE": "/x/y", "PGSSLROOTCERT": "system"})
    assert got["DURA_PASSPHRASE_FILE"] == str(tmp_path / "secret")
    assert (got["PGPASSFILE"], got["PGSSLROOTCERT"]) == ("/x/y", "system")


def test_a_path_that_cannot_be_looked_at_is_passed_on_as_it_is() -> None:
    """Whether the file is there is for the child to say: here, it may lie in a folder of another account."""
    nobody_can_look = "/" + "x" * 300
    assert clean_environment(source={"PGPASSFILE": nobody_can_look})["PGPASSFILE"] == nobody_can_look


def test_a_site_keeps_its_proxies_and_their_exceptions() -> None:
    """The way to the coordinator may lead through a proxy; what the hospital excepted stays excepted."""
    given = {"https_proxy": "http://proxy:3128", "NO_PROXY": ".hospital", "no_grpc_proxy": ".lan"}
    got = clean_environment(proxies=True, source=given)
    assert got["https_proxy"] == "http://proxy:3128"
    assert got["no_proxy"] == got["NO_PROXY"] == ".hospital,localhost,127.0.0.1,::1"
    assert got["no_grpc_proxy"] == ".lan,localhost,127.0.0.1,::1"
    assert "https_proxy" not in clean_environment(source=given)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"direct")

    def log_message(self, *_: object) -> None:
        pass


ASK = """
import json, sys, httpx, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
answers = [httpx.get(f"http://{host}:{sys.argv[1]}/", timeout=20).text for host in ("127.0.0.1", "localhost")]
channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}")
answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
print(json.dumps([*answers, answer.status]))
"""


def test_loopback_goes_through_no_proxy() -> None:
    """What stays on this machine goes there directly (HTTP and gRPC): a proxy that the variables name hears nothing."""
    service = health.HealthServicer()
    service.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    rpc = server.add_insecure_port("127.0.0.1:0")
    server.start()
    web = HTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        there = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        shell = {**os.environ, **dict.fromkeys(names, there), "no_proxy": "elsewhere", "NO_PROXY": ""}
        try:
            for proxies in (False, True):
                done = subprocess.run(
                    [sys.executable, "-c", ASK, str(web.server_port), str(rpc)],
                    env=clean_environment(proxies=proxies, source=shell),
                    capture_output=True,
                    check=True,
                    text=True,
                )
                assert json.loads(done.stdout) == ["direct", "direct", health_pb2.HealthCheckResponse.SERVING]
            with pytest.raises(TimeoutError):
                proxy.accept()
        finally:
            web.shutdown()
            web.server_close()
            server.stop(None)
