"""Python imports this by itself in every process of tests/federation/hospitals.py: nothing of it is installed.

Everywhere: dura's own loggers speak at DEBUG. In a hospital's runner: what left under masks and what was opened is
noted in ``journal.jsonl`` (digests, never values), and the first order in ``orders`` that fits the present place is
carried out once: ``kill`` ends this process at once (SIGKILL), ``wait`` holds it until a file exists.

Places, in the order of a session: ``advertise``, ``keys`` (everybody advertised), ``shares`` (everybody shared),
``mask``, ``masked`` (the vector is on its way), ``survivors``, ``confirms``, ``opened`` (the sum came, nobody here has
looked at it), ``between`` (the session is over: the next one of the request begins), ``idle`` (the answer to the
coordinator is out).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "DURA_TEST_ORDERS"
"""Variable with the hospital's folder of orders; without it nothing is done."""
WAIT_SECONDS = 120.0
ON_THE_WIRE_SECONDS = 0.3
log = logging.getLogger("dura_client.inside")

Place = dict[str, Any]


class Inside:
    """What happens in one runner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.last: Place | None = None
        """Where the last sum of a request was opened, until the answer is out."""

    def note(self, what: str, place: Place, **more: object) -> None:
        """Write one line; what is written survives the process."""
        log.debug("noted: %s", what)
        with (self._folder / "journal.jsonl").open("a") as journal:
            journal.write(json.dumps({"what": what, **place, **more}) + "\n")

    def left(self) -> None:
        """A session is over, and all its sums were opened."""
        if self.last is not None:
            self.reached("between", self.last)

    def reached(self, stage: str, place: Place) -> None:
        """Carry out the first order for this place, once."""
        here = {**place, "stage": stage}
        for path in sorted((self._folder / "orders").glob("*.json")):
            order = json.loads(path.read_text())
            if all(here[key] == value for key, value in order["at"].items()):
                if order["act"] == "wait":
                    path.with_suffix(".there").touch()
                    _wait_for(Path(order["for"]))
                path.rename(path.with_suffix(".done"))
                if order["act"] == "kill":
                    self.note("killed", here)
                    os.kill(os.getpid(), signal.SIGKILL)
                return


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(2 * ON_THE_WIRE_SECONDS)  # the one who was waited for is gone from the wire, too


def _place(site: Any) -> Place:
    return _where(site.params, getattr(site, "_step", site.params.first_step))


def _where(params: Any, step: int) -> Place:
    return {"study": params.study, "purpose": params.purpose, "round": params.round, "step": step}


def _before(kind: type, name: str, act: Callable[..., None]) -> None:
    real = getattr(kind, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        act(self, *args, **kwargs)
        return real(self, *args, **kwargs)

    setattr(kind, name, wrapped)


def _after(kind: type, name: str, act: Callable[..., None]) -> None:
    real = getattr(kind, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)
        act(self, result, *args, **kwargs)
        return result

    setattr(kind, name, wrapped)


def install(inside: Inside) -> None:
    """Stand between the runner and the real classes of the site's side."""
    from dura_client.node.flower_adapter import TaskSource
    from dura_client.sums.driver import Driver
    from dura_client.sums.plane import PlaneSums
    from dura_common.secagg.round_site import RoundSite
    from dura_common.secagg.site import Site
    from dura_common.secagg.step_site import StepSite
    from dura_common.secagg.wire import Type, decode

    stages = {
        Type.KEYS: "keys",
        Type.SEALED_SHARES: "shares",
        Type.SURVIVORS: "survivors",
        Type.CONFIRMS: "confirms",
        Type.OPENED: "opened",
    }

    def masked(site: Any, _frame: bytes, values: Any) -> None:
        inside.note("masked", _place(site), vector=hashlib.sha256(values.tobytes()).hexdigest()[:16])

    def transmitted(driver: Any, _result: None, frame: bytes) -> None:
        if decode(frame).type is Type.MASKED:
            while not driver._link._outgoing.empty():
                time.sleep(0.01)
            time.sleep(ON_THE_WIRE_SECONDS)
            inside.reached("masked", _place(driver._machine))

    def opened(driver: Any, _result: None, opened: Any) -> None:
        inside.last = _where(driver._params, opened.step)
        inside.note("opened", inside.last, contributors=list(opened.contributors))

    def served(_source: Any, done: bool, _handler: Any) -> None:
        if done and inside.last is not None:
            place, inside.last = inside.last, None
            inside.reached("idle", place)

    _before(Site, "advertise", lambda site: inside.reached("advertise", _place(site)))
    for kind in (StepSite, RoundSite):
        _before(kind, "_react", lambda site, frame: inside.reached(stages[frame.type], _place(site)))
    _before(Site, "mask", lambda site, _values: inside.reached("mask", _place(site)))
    _after(Site, "mask", masked)
    _after(Driver, "_transmit", transmitted)
    _after(Driver, "_opened", opened)
    _after(PlaneSums, "attend", lambda *_: inside.left())
    _after(TaskSource, "serve_one", served)


def _debug() -> None:
    for name in ("dura_common", "dura_client", "dura_server"):
        logging.getLogger(name).setLevel(logging.DEBUG)


if FOLDER in os.environ:
    _debug()
    if "dura_client.node.runner" in sys.orig_argv:
        install(Inside(Path(os.environ[FOLDER])))
