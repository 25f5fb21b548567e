"""`dura demo`: four simulated hospitals, one coordinator, real processes, only public commands.

The demo is a script that a reader could type: it prints every command before it runs it. What only a
simulation may know (each site alone, all patients pooled, exact accuracies) comes from commands that refuse
real data of several hospitals.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dura_common.errors import HostError
from dura_common.runtime.console import JsonOption, Output, command
from dura_common.runtime.files import private_folder, write_atomic

app = typer.Typer(invoke_without_command=True, help="See the whole of dura at work on simulated hospitals.")

HOSPITALS = ("north", "east", "south", "west")
WRONG_UNITS = {"south": "1e-3"}
"""The hospital whose files hold microvolts where volts are declared; `dura site data check` finds it."""
CODES = {"west": ("1=left_hand", "2=right_hand")}
"""The hospital whose event codes nobody could guess."""
DATASET = "motor-imagery"
PARALLEL = 2
POLICY = ("--epsilon-per-study", "8", "--epsilon-total", "10", "--delta", "1e-3", "--epsilon-if-broken", "40")
"""What each of the demo's hospitals allows."""
RESET = (
    "ledger.db",
    "ledger.db-wal",
    "ledger.db-shm",
    "offers",
    "approvals",
    "consortium",
    "policy.toml",
    "data",
)
"""What a rerun begins without; keys and prepared recordings stay. A real site's ledger is never reset."""


@dataclass
class Stage:
    """The demo's folders and its way to run commands."""

    out: Output
    work: Path
    patients: int
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)
    stopped: bool = False

    @property
    def coordinator(self) -> Path:
        """The coordinator's home."""
        return self.work / "coordinator"

    def site(self, name: str) -> Path:
        """One hospital's home."""
        return self.work / "sites" / name

    def dura(self, *arguments: str | Path) -> dict[str, Any]:
        """Print and run one public command with --json and return what it answered.

        Raises:
            HostError: the command failed; its own message is passed on.
        """
        words = ["dura", *map(str, arguments)]
        self.out.say(f"[cyan]$ {shlex.join(words)}[/cyan]")
        process = subprocess.run(
            [sys.executable, "-m", "dura_common", *words[1:], "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
            },  # two commands share two cores; more threads only collide
            check=False,
        )
        try:
            answer = json.loads(process.stdout or b"{}")
        except json.JSONDecodeError:
            answer = {}
        if process.returncode != 0:
            fault = answer.get("error", {}).get("message") or process.stderr.decode(errors="replace")[-2000:]
            raise HostError(f"`{shlex.join(words[:3])}` ended with {process.returncode}: {fault}")
        return dict(answer)

    def together(
        self, commands: Sequence[Sequence[str | Path]], title: str, at_once: int = PARALLEL
    ) -> list[dict[str, Any]]:
        """Run commands, ``at_once`` at a time, with a progress bar; answers in the order of the commands."""
        with self.out.progress() as bar, ThreadPoolExecutor(at_once) as pool:
            task = bar.add_task(title, total=len(commands))

            def one(arguments: Sequence[str | Path]) -> dict[str, Any]:
                answer = self.dura(*arguments)
                bar.advance(task)
                return answer

            return list(pool.map(one, commands))

    def at_each_site(self, act: Callable[[str], object], title: str) -> None:
        """Do the same at every hospital, two hospitals at a time, with a progress bar."""
        with self.out.progress() as bar, ThreadPoolExecutor(PARALLEL) as pool:
            task = bar.add_task(title, total=len(HOSPITALS))

            def one(name: str) -> None:
                act(name)
                bar.advance(task)

            list(pool.map(one, HOSPITALS))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to the figure ``name``."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 2)


@app.callback()
def demo(
    work: Annotated[Path, typer.Option(help="Where data, keys and results of the demo live.")] = Path("demo-run"),
    patients: Annotated[int, typer.Option(min=16, help="Simulated patients of each hospital.")] = 40,
    epsilon: Annotated[float, typer.Option(help="What the study may cost a patient.")] = 8.0,
    seed: Annotated[int, typer.Option(help="Of the simulated recordings and the first parameters.")] = 1,
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
        _show(out, result)
        out.result(result)


def _play(stage: Stage, epsilon: float) -> dict[str, Any]:
    with stage.timed("simulate"):
        _simulate(stage)
    with stage.timed("start"):
        _enrol(stage)
        _register(stage)
        _start(stage)
        digest = _submit(stage, epsilon)
    with stage.timed("prepare"):
        _approve(stage, digest)
    with stage.timed("train"):
        outcome = stage.dura("study", "run", digest, "--home", stage.coordinator)
    with stage.timed("report"):
        _end(stage)
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
    fleet, internal = _free_port(), _free_port()
    consortium = stage.dura(
        *("coordinator", "init", "--consortium", "demo", "--host", "127.0.0.1", "--port", str(fleet)),
        *("--internal-port", str(internal), "--home", stage.coordinator),
    )
    told: dict[str, dict[str, Any]] = {}

    def make_keys(name: str) -> None:
        home = stage.site(name)
        if not (home / "site.toml").exists():
            stage.dura("site", "init", "--name", name, "--home", home)
        told[name] = stage.dura("site", "fingerprint", "--home", home)

    stage.at_each_site(make_keys, "making keys")
    told["researcher"] = stage.dura(
        "study", "identity", "--name", "demo-researcher", "--researcher", stage.work / "researcher"
    )
    cards = [word for card in told.values() for word in (card["card"], "--fingerprint", card["fingerprint"])]
    post = stage.work / "post"
    stage.dura("coordinator", "admit", *cards, "--out", post, "--home", stage.coordinator)

    def join(name: str) -> None:
        admission = post / f"{name}.admission.json"
        stage.dura("site", "join", admission, "--fingerprint", consortium["fingerprint"], "--home", stage.site(name))

    stage.at_each_site(join, "joining")


def _register(stage: Stage) -> None:
    def register(name: str) -> None:
        scale = ("--scale", WRONG_UNITS[name]) if name in WRONG_UNITS else ()
        codes = tuple(word for code in CODES.get(name, ()) for word in ("--label", code))
        home = ("--home", stage.site(name))
        data = stage.work / "data" / name
        stage.dura("site", "data", "add", DATASET, data, "--task", "motorimagery", *scale, *codes, *home)
        stage.dura("site", "policy", "init", *POLICY, *home)

    stage.at_each_site(register, "registering data and policies")


def _start(stage: Stage) -> None:
    stage.dura("coordinator", "start", "--detach", "--home", stage.coordinator)
    starts = [("site", "start", "--detach", "--home", stage.site(name)) for name in HOSPITALS]
    stage.together(starts, "starting sites", at_once=len(starts))  # each waits more than it computes


def _submit(stage: Stage, epsilon: float) -> str:
    plan = stage.work / "study.toml"
    plan.unlink(missing_ok=True)
    sites = [word for name in HOSPITALS for word in ("--site", f"{name}={stage.patients}")]
    options = ["--epsilon", str(epsilon), "--seed", str(stage.seed)]
    stage.dura("study", "new", plan, *sites, *options)
    stage.dura("study", "check", plan)
    signed = stage.dura(
        *("study", "sign", plan, "--roster", stage.coordinator / "roster.json"),
        *("--researcher", stage.work / "researcher"),
    )
    stage.dura("study", "submit", signed["path"], "--home", stage.coordinator)
    return str(signed["digest"])


def _approve(stage: Stage, digest: str) -> None:
    stage.together(
        [("site", "approve", digest, "--data", DATASET, "--yes", "--home", stage.site(name)) for name in HOSPITALS],
        "reviewing, preparing and approving",
    )


def _report(stage: Stage, digest: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what the study released, and beside it what only a simulation may know."""
    model = stage.coordinator / "studies" / digest / "model.safetensors"
    mine: tuple[str | Path, ...] = ("--data", DATASET, "--home")
    pools: list[str | Path] = [word for name in HOSPITALS[1:] for word in ("--pool", stage.site(name))]
    commands: list[list[str | Path]] = [["site", "baseline", digest, *pools, *mine, stage.site(HOSPITALS[0])]]
    commands += [["site", "baseline", digest, "--model", model, *mine, stage.site(name)] for name in HOSPITALS]
    pooled, *alone = stage.together(commands, "comparing with each site alone and with all patients pooled")
    shows = [("site", "ledger", "show", "--home", stage.site(name)) for name in HOSPITALS]
    ledgers = stage.together(shows, "reading ledgers")
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


def _show(out: Output, result: Mapping[str, Any]) -> None:
    table = Table("site", "patients", "epsilon spent", "accuracy alone", title="The study, site by site")
    for site in result["sites"]:
        table.add_row(
            site["site"],
            str(site["patients"]),
            f"{site['epsilon']:.2f} (delta {site['delta']:g})",
            f"{site['accuracy_alone']:.3f}",
        )
    out.say(table)
    accuracy = result["accuracy"]
    alone = sum(site["accuracy_alone"] for site in result["sites"]) / len(result["sites"])
    out.say(f"mean of the sites alone  {alone:.3f}   (same epsilon)")
    out.say(f"federated                {accuracy['federated']:.3f}   (same epsilon; held-out patients, exact)")
    out.say(f"  as the study released  {accuracy['federated_released']:.3f}   (noisy sums: what a real study knows)")
    out.say(f"all patients pooled      {accuracy['pooled']:.3f}   (same epsilon; only a simulation may know)")
    out.say(f"chance                   {accuracy['chance']:.3f}")
    total = sum(result["seconds"].values())
    shares = ", ".join(f"{name} {value:.0f} s ({value / total:.0%})" for name, value in result["seconds"].items())
    out.say(f"time: {shares}; {total:.0f} s in all")
    out.say(f"report: {result['report']}")


def _end(stage: Stage) -> None:
    """Stop everything: the study has run, and what is compared next needs no process of it."""
    homes = [("site", stage.site(name)) for name in HOSPITALS] + [("coordinator", stage.coordinator)]
    stage.together([(group, "stop", "--home", home) for group, home in homes], "stopping", at_once=len(homes))
    stage.stopped = True


def _stop(stage: Stage) -> None:
    """Stop what runs, quietly: on the way out there is nothing to tell if nothing runs."""
    if stage.stopped:
        return
    homes = [("site", stage.site(name)) for name in HOSPITALS] + [("coordinator", stage.coordinator)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "dura_common", group, "stop", "--home", str(home), "--json"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for group, home in homes
        if (home / "run").exists()
    ]
    for process in running:
        process.wait()


def _reset(stage: Stage) -> None:
    """Begin a new consortium; keys of the practice sites and their prepared recordings stay."""
    shutil.rmtree(stage.coordinator, ignore_errors=True)
    shutil.rmtree(stage.work / "post", ignore_errors=True)
    shutil.rmtree(stage.work / "researcher", ignore_errors=True)
    for name in HOSPITALS:
        for item in RESET:
            path = stage.site(name) / item
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
