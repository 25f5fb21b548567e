"""`dura demo`: four simulated hospitals, one coordinator, real processes, only public commands.

A reader could type the demo as a script: it prints every command before running it. Some figures are known only in a
simulation (each site alone, all patients pooled, exact accuracies). They come from commands that refuse real data of
several hospitals.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dura_common.runtime.console import JsonOption, command
from dura_common.runtime.environment import module
from dura_common.runtime.files import private_folder, write_atomic
from dura_server.demo.stage import HOSPITALS, Stage
from dura_server.demo.summary import show

app = typer.Typer(
    add_completion=False, invoke_without_command=True, help="See the whole of dura at work on simulated hospitals."
)

WRONG_UNITS = {"south": "1e-3"}
"""The hospital whose values are a thousand times too large for the declared unit; `dura site data check` finds it."""
CODES = {"west": ("1=left_hand", "2=right_hand")}
"""The hospital whose event codes nobody could guess."""
DATASET = "motor-imagery"
POLICY = ("--epsilon-per-study", "8", "--epsilon-total", "10", "--delta", "1e-3", "--epsilon-if-broken", "40")
"""The policy of each hospital of the demo."""
FEWEST = 32
"""Keys decide who is held out. With 16 patients, one of the hospitals has too few of them in 2 of 10 demos; with 32, in
1 of 200."""
KEPT = ("cache", "keys", "site.toml", "*.card.json")
"""What stays of a practice site for the next run: keys and prepared recordings. A real site's ledger is never reset."""


@app.callback()
def demo(
    work: Annotated[Path, typer.Option(help="The folder for the demo's data, keys and results.")] = Path("demo-run"),
    patients: Annotated[int, typer.Option(min=FEWEST, help="Number of simulated patients at each hospital.")] = 40,
    epsilon: Annotated[float, typer.Option(help="The epsilon that the study may cost a patient.")] = 8.0,
    seed: Annotated[int, typer.Option(help="Seed of the recordings and of the model's first parameters.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Simulate four hospitals, enrol them, train one private model over them, and report."""
    with command(as_json) as out:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated demo cleans up like Ctrl-C
        stage = Stage(out, private_folder(work.resolve() / f"seed-{seed}"), patients, seed)
        _stop(stage)  # of a run that was killed
        _reset(stage)
        try:
            result = _play(stage, epsilon)
        finally:
            _stop(stage)
        show(out, result)
        out.result(result)


def _play(stage: Stage, epsilon: float) -> dict[str, Any]:
    with stage.timed("simulate"):
        _simulate(stage)
    with stage.timed("start"):
        _enrol(stage)
        signed = _register(stage, epsilon)
        _start(stage)
        stage.dura("study", "submit", signed["path"], "--home", stage.coordinator)
        digest = str(signed["digest"])
    with stage.timed("prepare"):
        _approve(stage, digest)
    with stage.timed("train"):
        outcome = stage.dura("study", "run", digest, "--home", stage.coordinator)
    with stage.timed("report"):
        return _report(stage, digest, outcome)


def _simulate(stage: Stage) -> None:
    data = private_folder(stage.work / "data")
    commands: list[list[str | Path]] = []
    for name in HOSPITALS:
        if (data / name / "participants.tsv").exists() and _patients(data / name) == stage.patients:
            continue
        shutil.rmtree(data / name, ignore_errors=True)
        options = ["--hospital", name, "--patients", str(stage.patients), "--seed", str(stage.seed)]
        commands.append(["site", "data", "simulate", data / name, *options])
    stage.together(commands, "simulating hospitals")


def _patients(folder: Path) -> int:
    return len((folder / "participants.tsv").read_text().splitlines()) - 1


def _enrol(stage: Stage) -> None:
    """Enrol as by telephone: each side compares the fingerprint that the other side has read out."""
    port, aggregation_port = _free_ports()
    stage.dura(
        *("coordinator", "init", "--consortium", "demo", "--host", "127.0.0.1", "--port", str(port)),
        *("--aggregation-port", str(aggregation_port), "--home", stage.coordinator),
    )
    authority = ("--authority", stage.work / "authority")
    told: dict[str, dict[str, Any]] = {}

    def make_keys(name: str) -> None:
        home = stage.site(name)
        known = (home / "site.toml").exists()
        words = ("fingerprint",) if known else ("init", "--name", name)
        told[name] = stage.dura("site", *words, "--home", home)

    def make_others() -> None:
        stage.dura("authority", "init", "--coordinator", stage.coordinator, *authority)
        names = ("--name", "demo-researcher", "--researcher", stage.work / "researcher")
        told["researcher"] = stage.dura("study", "identity", *names)

    stage.at_each_site(make_keys, "making keys", beside=make_others)
    cards = [word for card in told.values() for word in (card["card"], "--fingerprint", card["fingerprint"])]
    post = stage.work / "post"
    admitted = stage.dura("authority", "admit", *cards, "--out", post, *authority)

    def join(name: str) -> None:
        admission = post / f"{name}.admission.json"
        stage.dura("site", "join", admission, "--fingerprint", admitted["fingerprint"], "--home", stage.site(name))

    def start() -> None:
        stage.dura("coordinator", "start", "--detach", "--home", stage.coordinator)

    stage.at_each_site(join, "joining, and starting the coordinator", beside=start)


def _register(stage: Stage, epsilon: float) -> dict[str, Any]:
    """Register data and policies; meanwhile the researcher writes and signs the study."""
    signed: dict[str, Any] = {}

    def register(name: str) -> None:
        scale = ("--scale", WRONG_UNITS[name]) if name in WRONG_UNITS else ()
        codes = tuple(word for code in CODES.get(name, ()) for word in ("--label", code))
        home = ("--home", stage.site(name))
        data = stage.work / "data" / name
        stage.dura("site", "data", "add", DATASET, data, "--task", "motorimagery", *scale, *codes, *home)
        stage.dura("site", "policy", "init", *POLICY, *home)

    stage.at_each_site(register, "registering data and policies", beside=lambda: signed.update(_sign(stage, epsilon)))
    return signed


def _start(stage: Stage) -> None:
    starts = [("site", "start", "--detach", "--home", stage.site(name)) for name in HOSPITALS]
    stage.together(starts, "starting sites", at_once=len(starts))  # each waits more than it computes


def _sign(stage: Stage, epsilon: float) -> dict[str, Any]:
    plan = stage.work / "study.toml"
    plan.unlink(missing_ok=True)
    sites = [word for name in HOSPITALS for word in ("--site", f"{name}={stage.patients}")]
    options = ["--epsilon", str(epsilon), "--seed", str(stage.seed)]
    stage.dura("study", "new", plan, *sites, *options)
    stage.dura("study", "check", plan)
    return stage.dura(
        *("study", "sign", plan, "--roster", stage.coordinator / "roster.json"),
        *("--researcher", stage.work / "researcher"),
    )


def _approve(stage: Stage, digest: str) -> None:
    stage.together(
        [("site", "approve", digest, "--data", DATASET, "--yes", "--home", stage.site(name)) for name in HOSPITALS],
        "reviewing, preparing and approving",
    )


def _report(stage: Stage, digest: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the figures that the study released, and the figures that only a simulation may know."""
    model = stage.coordinator / "studies" / digest / "model.safetensors"
    mine: tuple[str | Path, ...] = ("--data", DATASET, "--home")
    first, *others = map(stage.site, HOSPITALS)
    pools = [word for home in others for word in ("--pool", home)]
    rest = [word for home in others for word in ("--beside", home)]
    comparisons: list[tuple[str | Path, ...]] = [
        ("site", "baseline", digest, *pools, *mine, first),
        ("site", "baseline", digest, "--model", model, *rest, *mine, first),
    ]
    stops = [("site", "stop", "--home", stage.site(name)) for name in HOSPITALS]  # they wait more than they compute
    pooled, each, *_ = stage.together(
        [*comparisons, *stops],
        "stopping the sites, and comparing with each site alone and with all patients pooled",
        at_once=len(comparisons) + len(stops),
    )
    alone = [each, *each["beside"]]
    shows = [("site", "ledger", "show", "--home", stage.site(name)) for name in HOSPITALS]
    # The coordinator stops last: a node signs off there, and would wait for a coordinator that is gone.
    stop = ("coordinator", "stop", "--home", stage.coordinator)
    _, *ledgers = stage.together([stop, *shows], "stopping the coordinator, and reading ledgers")
    stage.stopped = True
    scores = [value for answer in alone for value in answer["model"]["scores"]]
    result: dict[str, Any] = {
        "sites": [
            {
                "site": name,
                "patients": stage.patients,
                "epsilon": ledger["spent"],
                "delta": ledger["delta"],
                "accuracy_alone": answer["accuracy"],
            }
            for name, ledger, answer in zip(HOSPITALS, ledgers, alone, strict=True)
        ],
        "accuracy": {
            "federated": sum(scores) / len(scores),
            "federated_released": outcome["curve"][-1]["accuracy"],
            "pooled": pooled["accuracy"],
            "chance": 0.5,
        },
        "seconds": stage.seconds,
        "noise": "shared",
        "simulated": True,
    }
    extra = stage.work / "simulation.json"
    write_atomic(extra, json.dumps(result, indent=2).encode())
    page = stage.work / "report.html"
    stage.dura("study", "report", digest, "--out", page, "--extra", extra, "--home", stage.coordinator)
    return {**result, "report": str(page)}


def _stop(stage: Stage) -> None:
    """Stop all running processes without any message if none is running."""
    if stage.stopped:
        return
    homes = [("site", stage.site(name)) for name in HOSPITALS] + [("coordinator", stage.coordinator)]
    running = [
        subprocess.Popen(
            module("dura_common", group, "stop", "--home", str(home), "--json"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for group, home in homes
        if (home / "run").exists()
    ]
    for process in running:
        process.wait()


def _reset(stage: Stage) -> None:
    """Begin a new consortium, in which nobody remembers the one before."""
    for name in ("coordinator", "authority", "post", "researcher"):
        shutil.rmtree(stage.work / name, ignore_errors=True)
    for path in (stage.work / "sites").glob("*/*"):
        if any(path.match(kept) for kept in KEPT):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _free_ports() -> tuple[int, int]:
    """Return two different ports on which nobody listens."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return int(first.getsockname()[1]), int(second.getsockname()[1])
