"""The ClientApp that the runner serves. It is imported from the installed package, never from a bundle."""

from __future__ import annotations

import logging
import os
import threading
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from dura_client.node.service import SiteService, import_what_trains
from dura_client.site.home import SiteHome
from dura_client.sums.plane import PlaneSums
from dura_client.sums.telling import tell_approved
from dura_common.errors import DuraError, InputError
from dura_common.messages import Refusal, RefusalReason, encode
from dura_common.messages.records import from_records, to_records

log = logging.getLogger(__name__)

app = ClientApp()

MAX_PARAMETERS = 150_000_000
"""Largest vector that is unpacked at all (600 MB: a model and two moments); the approved study then demands its
exact length."""


@cache
def _service() -> SiteService:
    home = SiteHome(Path(os.environ["DURA_SITE_HOME"]))
    return SiteService(home, PlaneSums(home))


def _handle(message: Message, _context: Context) -> Message:
    try:
        body, vector = from_records(message.content, max_parameters=MAX_PARAMETERS)
    except InputError:
        return Message(to_records(encode(Refusal(reason=RefusalReason.NOT_UNDERSTOOD)), None), reply_to=message)
    return Message(to_records(encode(_service().answer(body, vector)), None), reply_to=message)


def prepare() -> None:
    """A study was approved here, and will soon run: tell the coordinator, and do what takes seconds."""
    threading.Thread(target=_tell, name="dura-approved", daemon=True).start()
    import_what_trains()


def _tell() -> None:
    try:
        told = tell_approved(SiteHome(Path(os.environ["DURA_SITE_HOME"])), datetime.now(UTC))
    except DuraError as error:
        log.warning("the coordinator was not told of the approval: %s", error.message)
    else:
        log.info("the coordinator %s", "knows of the approval" if told else "could not be told; it will ask by itself")


app.query()(_handle)
app.train()(_handle)
app.evaluate()(_handle)
