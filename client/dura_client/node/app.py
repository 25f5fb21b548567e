"""The ClientApp that the runner serves. It is imported from the installed package, never from a bundle."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from dura_client.node.service import SiteService, import_what_trains
from dura_client.site.home import SiteHome
from dura_client.sums.plane import PlaneSums
from dura_common.errors import InputError
from dura_common.messages import Refusal, RefusalReason, encode
from dura_common.messages.records import from_records, to_records

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
    """Do what takes seconds and needs no request: a study was approved here, and will soon run."""
    import_what_trains()


app.query()(_handle)
app.train()(_handle)
app.evaluate()(_handle)
