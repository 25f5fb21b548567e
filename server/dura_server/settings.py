"""The coordinator's own settings (coordinator.toml): its address for the sites, and its ports."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from dura_common.errors import StateError
from dura_common.runtime.files import read_limited
from dura_common.study import Frozen, Word, explain_validation, parse_toml
from dura_server.home import CoordinatorHome

HOST_NAME = r"(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}"
MAX_HOST = 253
"""Longest name that DNS allows."""


class CoordinatorSettings(Frozen):
    """The content of coordinator.toml."""

    consortium: Word
    host: str
    """Name or address under which sites reach this machine."""
    bind: str = "0.0.0.0"  # noqa: S104  # sites connect from outside; only the gateway listens here
    port: Annotated[int, Field(ge=1, le=65535)]
    """Public port of the gateway."""
    aggregation_port: Annotated[int, Field(ge=1, le=65535)] = 8444
    """Public port of the secure sums."""
    studies_at_once: Annotated[int, Field(ge=1, le=16)] = 4
    """Largest number of studies that run side by side. Each takes a process with about 400 MiB of memory, and one
    of the 16 sessions of secure sums."""

    @property
    def fleet(self) -> str:
        """The address to which sites' nodes connect, as host:port. An IPv6 address is written in brackets."""
        return self._address(self.port)

    @property
    def aggregation(self) -> str:
        """The address to which sites send secure sums, as host:port."""
        return self._address(self.aggregation_port)

    def _address(self, port: int) -> str:
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    @field_validator("host", "bind")
    @classmethod
    def _reachable(cls, value: str) -> str:
        if not _is_address(value) and not (len(value) <= MAX_HOST and re.fullmatch(HOST_NAME, value)):
            raise ValueError("must be a host name or an IP address, without port or brackets")
        return value

    @model_validator(mode="before")
    @classmethod
    def _without_old(cls, data: Any) -> Any:
        """Drop what files of 0.1.0 say about a port on which nothing listens any more."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if name != "internal_port"}

    @model_validator(mode="after")
    def _distinct_ports(self) -> Self:
        if self.port == self.aggregation_port:
            raise ValueError("port and aggregation_port must differ")
        return self


def load_settings(home: CoordinatorHome) -> CoordinatorSettings:
    """Read coordinator.toml.

    Raises:
        StateError: there is no coordinator here.
        InputError: the file is not valid.
    """
    if not home.settings.exists():
        raise StateError(f"there is no coordinator at {home.path}", hint="Create one with `dura coordinator init`.")
    what = "the coordinator's settings"
    try:
        return CoordinatorSettings.model_validate(parse_toml(read_limited(home.settings, what=what), what=what))
    except ValidationError as error:
        raise explain_validation(error, what=what) from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
