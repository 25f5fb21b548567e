"""The site's own settings (site.toml): its name and the machine's resources, chosen by the site alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from dura_client.home import SiteHome
from dura_common.errors import StateError
from dura_common.runtime.files import read_limited
from dura_common.study import Frozen, SiteName, explain_validation, parse_toml


class SiteSettings(Frozen):
    """What site.toml may say."""

    name: SiteName
    device: Literal["cpu", "cuda"] = "cpu"
    """Where models train."""
    runtime_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Loopback port between SuperNode and runner; 0 takes a free one at every start."""


def load_settings(home: SiteHome) -> SiteSettings:
    """Read site.toml.

    Raises:
        StateError: the site was not initialised.
        InputError: the file is not valid.
    """
    if not home.settings.exists():
        raise StateError(f"there is no site at {home.path}", hint="Create one with `dura site init`.")
    data = parse_toml(read_limited(home.settings, what="the site's settings"), what="the site's settings")
    try:
        return SiteSettings.model_validate(data)
    except ValidationError as error:
        raise explain_validation(error, what="the site's settings") from error
