"""``python -m dura_server.commands.errand HOME JOB DIGEST``: what the coordinator does for a researcher's desk.

The service of the desk has checked who asks (:mod:`dura_server.desk.service`); this process does what the command of
the same name does at the coordinator's machine. Its output is one JSON object: ``answer`` or ``error``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dura_common.errors import DuraError, StateError
from dura_server.commands.study.places.at_coordinator import AtCoordinator
from dura_server.home import CoordinatorHome


def run(home: CoordinatorHome, job: str, digest: str) -> str:
    """Do one job and return its answer as JSON.

    Raises:
        DuraError: what the command would say.
    """
    place = AtCoordinator(home)
    if job == "offer":
        if not place.begin(digest, "offer"):
            raise StateError("this study is already running", hint="`dura study watch` shows it.")
        return place.look(digest).for_desk().model_dump_json()
    if job == "train":
        return json.dumps({"begun": place.begin(digest, "train")})
    if job == "stop":
        return place.stop(digest).for_desk().model_dump_json()
    if job == "look":
        return place.look(digest).for_desk().model_dump_json()
    if job == "result":
        return place.result(digest, None).model_dump_json()
    raise ValueError(f"there is no errand {job!r}")


def main(arguments: list[str]) -> None:
    """Print one JSON object: HOME JOB DIGEST."""
    home, job, digest = arguments
    try:
        answer = run(CoordinatorHome(Path(home)), job, digest)
    except DuraError as error:
        sys.stdout.write(json.dumps({"error": {"code": error.code, "message": error.message, "hint": error.hint}}))
    else:
        sys.stdout.write(f'{{"answer": {answer}}}')


if __name__ == "__main__":
    main(sys.argv[1:])
