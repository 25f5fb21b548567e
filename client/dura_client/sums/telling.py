"""Tells the coordinator that a study was approved here, so that it need not ask again and again.

The word travels as the secure sums do: a stream that this site opens, with its certificate and its identity's
signature. It names no study. The approval itself is asked for by Flower, and signed.
"""

from __future__ import annotations

import queue
from datetime import datetime
from typing import Any

from dura_client.site.home import SiteHome
from dura_client.sums.link import Ended, Endpoint, Link
from dura_common.messages.proto.aggregation_pb2 import Hello, Reason
from dura_common.sums.plane import APPROVED, HELLO_BYTES, bind

PATIENCE_SECONDS = 10.0


def tell_approved(home: SiteHome, now: datetime) -> bool:
    """Tell the coordinator; return whether it has understood. Nothing depends on it: it asks by itself, only later.

    Raises:
        StateError: the site has not joined.
        TrustError: the roster or a certificate was altered or has expired.
    """
    endpoint = Endpoint.of_site(home, now)
    hello = Hello(binding=bind(endpoint.identity, endpoint.certificate_der()), session=APPROVED)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    link = Link(endpoint, hello, limit=HELLO_BYTES, inbox=inbox)
    try:
        _, event = inbox.get(timeout=PATIENCE_SECONDS)
    except queue.Empty:
        return False
    finally:
        link.drop()
    return isinstance(event, Ended) and event.reason == Reason.FINISHED
