"""The runner's side of Flower's internals (flwr 1.41.0, pinned exactly); the SuperNode's is in ``supernode_adapter``.

It asks the local SuperNode for tasks, hands message and context to a function, and pushes the reply. The app
bundle (FAB) that comes with a task is received by Flower's protocol and dropped here: it is never written,
unpacked or imported. A contract test calls everything below, so that another Flower version fails loudly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.app import Context, Message
from flwr.app.error import Error
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore import heartbeat as heartbeat_module
from flwr.supercore.auth import load_superexec_auth_secret
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import RetryInvoker, constant
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from dura_common.runtime.bell import SOON, Bell
from dura_common.runtime.flower.sockets import client_at
from dura_common.runtime.flower.waits import override, shorten_pulls

POLL_SECONDS = 5.0
"""Between two questions for a task. The SuperNode rings when there is one; a ring may be lost with a process."""
RETRY_SECONDS = 0.3
RETRIES = 10
"""Flower's own client retries for ever, and ends the process if a task is no longer known."""
REFUSED = "refused"
"""The only text that ever stands in an error reply: an exception's own text could carry data."""

LEASE_INTERVAL = 10
"""Seconds between heartbeats of a task, in both processes of a site. A runner that died is noticed after twice this
time. By Flower's default, this takes a minute, and until then the node answers nothing."""

Handler = Callable[[Message, Context], Message]


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """The socket at which the local SuperNode serves tasks, and the secret that it asks for."""

    socket: Path
    secret_file: Path

    @property
    def bell(self) -> Path:
        """Rings in the runner when there is a task, or will be soon."""
        return self.socket.with_suffix(".bell")


class TaskSource:
    """Serves the tasks of one SuperNode, one at a time; ``soon`` is called when there will be a task soon."""

    def __init__(self, node: NodeAddress, soon: Callable[[], None] = lambda: None) -> None:
        self._node = node
        self._soon = soon
        self._bell = Bell(node.bell)
        quicken()
        secret = load_superexec_auth_secret(secret_file=str(node.secret_file))
        if secret is None:
            raise ValueError("the runner needs the SuperNode's secret")
        self._tasks = self._client(
            SuperExecAuthHttpInterceptor(
                master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
            )
        )

    def serve_one(self, handler: Handler) -> bool:
        """Serve one task if there is one, or wait for a ring; False if there was none (after a while).

        After a ring, ask again before anything else: it is heard only once.
        """
        offer = self._tasks.AcquireTask(AcquireTaskRequest(supported_task_types={TaskType.CLIENT_APP}))
        if not (offer.HasField("task") and offer.token):
            heard = self._bell.wait(POLL_SECONDS)
            if SOON in heard:
                self._soon()
            return bool(heard)
        client = self._client(RuntimeTokenHttpInterceptor(offer.token))
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        heartbeat.start()
        try:
            message, context, _run, _bundle = pull_task_input(client)
            push_message(client, _answer(handler, message, context), context)
            push_task_output(client=client, context=context, sub_status=SubStatus.COMPLETED, details="")
        finally:
            heartbeat.stop()
            client.close()
        return True

    def _client(self, interceptor: ProtobufClientInterceptor) -> RuntimeHttpClient:
        return client_at(
            RuntimeHttpClient,
            self._node.socket,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), interceptor],
            retry_invoker=RetryInvoker(
                wait_gen_factory=lambda: constant(RETRY_SECONDS),
                recoverable_exceptions=httpx.TransportError,
                max_tries=RETRIES,
                max_time=None,
            ),
        )


def _answer(handler: Handler, message: Message, context: Context) -> Message:
    try:
        return handler(message, context)
    except Exception:  # noqa: BLE001  # the boundary: whatever happened, one constant word goes out
        return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=REFUSED), reply_to=message)


def quicken() -> None:
    """Shorten how long a process of a site waits for objects that have not arrived, and for heartbeats of a task."""
    shorten_pulls()
    override(heartbeat_module, "HEARTBEAT_DEFAULT_INTERVAL", LEASE_INTERVAL)
