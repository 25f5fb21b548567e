"""A ClientApp for tests: it returns what it got, or fails with a text that nobody outside may read."""

from __future__ import annotations

import os
import sys

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from dura_common.messages.records import from_records, to_records

app = ClientApp()
REST = "DURA_TEST_REST"
"""How long the runner of this app has nothing to do before it ends, in seconds."""
SECRET_TEXT = "patient 17 has a value of 3.5"  # noqa: S105  # a text that must not travel


def _echo(message: Message, _context: Context) -> Message:
    body, vector = from_records(message.content, max_parameters=10_000_000)
    if body == b"fail":
        raise ValueError(SECRET_TEXT)
    return Message(to_records(body, vector), reply_to=message)


if REST in os.environ:
    sys.modules["__main__"].REST_SECONDS = float(os.environ[REST])  # type: ignore[attr-defined]  # the runner's module

app.query()(_echo)
app.train()(_echo)
app.evaluate()(_echo)
