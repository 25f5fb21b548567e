"""A whole study with real processes, and a coordinator that asks for more than it was allowed."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import tomllib
from pathlib import Path

import httpx
import pytest
from tests.federation.commanded import PATIENTS, SITES, Commanded
from tests.support.commands import Failed, answer, dura
from tests.support.processes import wait_until

from dura_client.ledger.ledger import Ledger
from dura_client.node.service import SiteService
from dura_client.studies.approvals import require_approved
from dura_client.sums.plane import PlaneSums
from dura_common.errors import DuraError
from dura_common.messages import EvaluateRound, Refusal, RefusalReason, TrainRound, encode
from dura_server.rounds.rounds import first_parameters
from dura_server.studies.store import StudyStore

pytestmark = [pytest.mark.federation, pytest.mark.timeout(900)]


def digest_of(signed: Path) -> str:
    """Return a signed study's digest."""
    from dura_common.consortium.envelope import payload_of

    return hashlib.sha256(payload_of(signed.read_bytes())).hexdigest()


def training(study: str, number: int) -> TrainRound:
    """Return a request to train."""
    return TrainRound(study=study, round=number, attempt=1, members=SITES)


def evaluation(study: str, number: int) -> EvaluateRound:
    """Return a request to evaluate."""
    return EvaluateRound(study=study, round=number, attempt=1, members=SITES)


@pytest.fixture(scope="module")
def finished(consortium: Commanded) -> str:
    """Return the digest of a study that was approved by all sites, and run to its end from the researcher's desk."""
    desk = consortium.join_researcher()
    signed = consortium.study("hands")
    again = dura("study", "sign", consortium.root / "hands.toml", *desk)  # for the roster that the desk follows
    assert (again["digest"], again.get("warnings")) == (digest_of(signed), None)
    digest = digest_of(signed)
    offered = dura("study", "submit", signed, *desk, timeout=600)
    assert offered["phase"] == "offered"
    with pytest.raises(Failed, match="needed sites have approved"):
        dura("study", "run", digest, *desk, timeout=600)
    for name in SITES:
        assert Ledger(consortium.site(name).ledger).spent(1e-3) == 0
        dura("site", "approve", digest, "--data", "mi", "--yes", "--home", consortium.site(name))
    outcome = dura("study", "run", digest, *desk, timeout=600)
    assert outcome["phase"] == "finished"
    assert outcome["round"] == 2
    return digest


def test_the_desk_gets_what_was_released(consortium: Commanded, finished: str, tmp_path: Path) -> None:
    """List, status, watch, report and model of the own study, the same as at the coordinator's machine."""
    desk, home = ("--researcher", consortium.researcher), ("--home", consortium.coordinator)
    (row,) = [row for row in dura("study", "list", *desk)["studies"] if row["digest"] == finished]
    assert row["phase"] == "finished"
    mine, theirs = (dura("study", "status", finished[:8], *where)["studies"][0] for where in (desk, home))
    assert mine == {**theirs, "run": None, "attempts": {}}
    assert mine["connected"] == dict.fromkeys(SITES, True)
    assert dura("study", "watch", "hands", *desk)["phase"] == "finished"
    pages = []
    for name, where in (("desk", desk), ("home", home)):
        page, model = tmp_path / f"{name}.html", tmp_path / f"{name}.safetensors"
        pages.append(dura("study", "report", finished, "--out", page, "--model", model, *where)["result"])
        assert "hands" in page.read_text()
        assert model.read_bytes() == StudyStore(consortium.coordinator).load(finished).model_file.read_bytes()
    assert {**pages[0], "created": None} == {**pages[1], "created": None}
    for words in (("run", finished), ("stop", finished), ("resume", finished)):
        assert answer("study", *words, *desk, code=14)["error"]["message"].startswith("the coordinator says: ")


def test_an_approved_study_runs_to_its_end_and_costs_what_was_planned(consortium: Commanded, finished: str) -> None:
    """The model is there, every site's ledger holds exactly the planned cost, settled and intact."""
    stored = StudyStore(consortium.coordinator).load(finished)
    assert stored.read_model().size == first_parameters(stored.study).size
    for name in SITES:
        shown = dura("site", "ledger", "show", "--home", consortium.site(name))
        assert 7.8 < shown["spent"] <= 8.0
        assert dura("site", "ledger", "verify", "--home", consortium.site(name))["verified"]
    page = consortium.root / "report.html"
    dura("study", "report", finished, "--out", page, "--home", consortium.coordinator, timeout=600)
    assert "hands" in page.read_text()


def test_a_finished_round_is_never_answered_again(consortium: Commanded, finished: str) -> None:
    """A coordinator that repeats a round gets a refusal, and nothing is charged or computed."""
    home = consortium.site("north")
    study = require_approved(home, finished, consortium.now()).study
    before = Ledger(home.ledger).entries()
    service = SiteService(home, PlaneSums(home))
    for request in (training(finished, 1), evaluation(finished, 2)):
        reply = service.answer(encode(request), first_parameters(study))
        assert isinstance(reply, Refusal)
        assert reply.reason in {RefusalReason.REPEATED_ROUND, RefusalReason.NO_DRAW_LEFT}  # by then it has ended here
    assert Ledger(home.ledger).entries() == before


def test_rounds_that_the_study_does_not_have_are_refused(consortium: Commanded, finished: str) -> None:
    """A round beyond the study's, or a vector of another model, is refused before the ledger is touched."""
    home = consortium.site("north")
    study = require_approved(home, finished, consortium.now()).study
    service, before = SiteService(home, PlaneSums(home)), Ledger(home.ledger).entries()
    parameters = first_parameters(study)
    for request, vector in (
        (training(finished, 3), parameters),
        (evaluation(finished, 1), parameters),
        (training(finished, 3), parameters[:-1]),
        (training("ab" * 32, 1), parameters),
        (training(finished, 1).model_copy(update={"members": ("north", "zurich")}), parameters),
    ):
        assert isinstance(service.answer(encode(request), vector), Refusal)
    assert Ledger(home.ledger).entries() == before


def test_an_approval_altered_on_disk_is_noticed(consortium: Commanded, finished: str) -> None:
    """Changing one character of the approval or the study at the site makes it refuse."""
    home = consortium.site("west")
    for path in (home.approvals / f"{finished}.json", home.offers / f"{finished}.json"):
        original = path.read_text()
        place = original.index("payload") + 40
        path.write_text(original[:place] + ("A" if original[place] != "A" else "B") + original[place + 1 :])
        with pytest.raises(DuraError, match=r"signature|altered|signed document|never offered"):
            require_approved(home, finished, consortium.now())
        path.write_text(original)
    require_approved(home, finished, consortium.now())


def test_a_second_study_that_would_exceed_the_cap_is_refused_at_review(consortium: Commanded, finished: str) -> None:
    """Epsilon 8 was spent of 10: nobody has room for another study of 8, so too few patients are left to approve it."""
    signed = consortium.study("again")
    dura("study", "submit", signed, "--home", consortium.coordinator, timeout=600)
    home = consortium.site("north")
    review = dura("site", "review", digest_of(signed), "--data", "mi", "--home", home)
    assert [f["rule"] for f in review["findings"] if not f["passed"]] == ["patients-here"]
    with pytest.raises(Failed, match="exit code 12") as caught:
        dura("site", "approve", digest_of(signed), "--data", "mi", "--yes", "--home", home)
    assert caught.value.code == 12
    assert not (home.approvals / f"{digest_of(signed)}.json").exists()
    assert (home.approvals / f"{finished}.json").exists()


@pytest.mark.long
@pytest.mark.usefixtures("finished")
def test_a_study_whose_hospitals_hide_the_time_of_a_step(consortium: Commanded) -> None:
    """Both hospitals measure a tick of their own on dummies, and the study ends as planned."""
    ticking = f"draws of {PATIENTS} patients, real ones and dummies, leave at ticks of"
    for name in SITES:
        home = consortium.site(name)
        assert ticking not in (home.logs / "runner.log").read_text()
        caps = ["--epsilon-per-study", 8, "--epsilon-total", 20, "--delta", 1e-3, "--minimum-sites", 2]
        dura("site", "policy", "init", *caps, "--hide-timing", "--replace", "--home", home)
    signed = consortium.study("hidden")
    digest = digest_of(signed)
    dura("study", "submit", signed, "--home", consortium.coordinator, timeout=600)
    for name in SITES:
        dura("site", "approve", digest, "--data", "mi", "--yes", "--home", consortium.site(name))
    outcome = dura("study", "run", digest, "--home", consortium.coordinator, timeout=600)
    assert (outcome["phase"], outcome["round"]) == ("finished", 2)
    for name in SITES:
        home = consortium.site(name)
        assert (home.logs / "runner.log").read_text().count(ticking) == 1
        assert Ledger(home.ledger).spent(1e-3, digest) <= 8
        assert dura("site", "ledger", "verify", "--home", home)["verified"]


def test_code_in_a_bundle_never_runs_at_a_site(consortium: Commanded, finished: str, tmp_path: Path) -> None:
    """An app that ships dura_client/app.py, sitecustomize and a module of the site's imports has no effect there."""
    from flwr.cli.build import build_fab_from_disk
    from flwr.common.serde import fab_to_proto
    from flwr.proto.control_pb2 import StartRunRequest
    from flwr.supercore.fab import Fab

    from dura_server.services.superlink import APP, control, run_status

    marker = tmp_path / "it-ran"
    app = tmp_path / "hostile"
    for name in ("dura_client/app.py", "dura_client/__init__.py", "sitecustomize.py", "mne.py", "evil/app.py"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(f"import os\nopen({str(marker)!r} + str(os.getpid()), 'w').write({name!r})\n")
    # The server side of the run is the attacker's own: it sends a message to every node and keeps the replies.
    (app / "evil/__init__.py").write_text("")
    (app / "evil/server.py").write_text(
        "import json\nfrom flwr.serverapp import ServerApp\nfrom flwr.app import ConfigRecord, RecordDict\n"
        "from dura_server.rounds.exchange import exchange\napp = ServerApp()\n@app.main()\ndef main(grid, context):\n"
        "    nodes = list(grid.get_node_ids())\n"
        "    got = exchange(grid, {n: RecordDict({'dura': ConfigRecord({'body': b'run my code'})}) for n in nodes},"
        " message_type='train', timeout=60)\n"
        f"    open({str(tmp_path / 'replies.json')!r}, 'w').write(json.dumps("
        "[r['dura']['body'].decode() if r else None for r in got.values()]))\n"
    )
    (app / "pyproject.toml").write_text(APP.replace("dura_server.rounds.app:app", "evil.server:app"))
    content = build_fab_from_disk(app)
    home = consortium.coordinator
    with control(home) as client:
        bundle = Fab(hashlib.sha256(content).hexdigest(), content, {})
        run_id = int(client.StartRun(StartRunRequest(fab=fab_to_proto(bundle))).run_id)
    wait_until(lambda: run_status(home, run_id).startswith("finished"), "the run has finished", 90)
    replies = json.loads((tmp_path / "replies.json").read_text())
    assert [json.loads(reply) for reply in replies] == [
        {"kind": "refusal", "reason": "not-understood", "attempt": None}
    ] * 2
    assert list(tmp_path.glob("it-ran*")) == []
    for name in SITES:
        unpacked = list(consortium.site(name).path.glob("flower/apps/*"))
        assert unpacked == []
    assert StudyStore(home).load(finished).read_state().phase == "finished"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/list-runs"),
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/runtime/acquire-task"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/health"),
        ("GET", "/v1/fleet/activate-node"),
        ("POST", "/v1/fleet/../control/list-runs"),
        ("POST", "/v1/fleet/%2e%2e/control/list-runs"),
        ("POST", "/v1/fleet/..%2fcontrol/list-runs"),
        ("POST", "//v1/control/list-runs"),
        ("POST", "/v1/fleet/activate-node?x=1"),
        ("POST", "/v1/fleet/"),
    ],
)
def test_the_gateway_lets_nothing_but_the_fleet_through(consortium: Commanded, method: str, path: str) -> None:
    """Control, runtime and documentation paths are 404 at the public port, however they are written."""
    context = ssl.create_default_context(cafile=str(consortium.coordinator.keys / "authority.pem"))
    with (
        socket.create_connection(("127.0.0.1", consortium.settings.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as stream,
    ):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        stream.sendall(head.encode())
        answer = b""
        while chunk := stream.recv(4096):
            answer += chunk
    assert answer.split(b" ")[1] == b"404"


def test_a_client_of_another_authority_cannot_even_connect(consortium: Commanded) -> None:
    """A machine that does not know the consortium's authority refuses the gateway's certificate."""
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.post(f"https://127.0.0.1:{consortium.settings.port}/v1/fleet/activate-node")


def test_a_second_start_is_refused_and_the_first_goes_on(consortium: Commanded) -> None:
    """Starting twice is one clear error, and the running services are not disturbed."""
    with pytest.raises(Failed, match="exit code 14") as caught:
        dura("coordinator", "start", "--detach", "--home", consortium.coordinator, timeout=600)
    assert caught.value.code == 14
    assert dura("coordinator", "status", "--home", consortium.coordinator)["running"]


def test_private_keys_are_readable_by_their_owner_only(consortium: Commanded) -> None:
    """Every file among the keys has mode 0600, and no exchanged file holds a private key."""
    for home in (consortium.coordinator, *(consortium.site(name) for name in SITES)):
        for path in home.keys.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path
    for path in consortium.post.iterdir():
        assert "PRIVATE" not in path.read_text()
    assert tomllib.loads(consortium.site("north").settings.read_text())["name"] == "north"
