"""The building blocks of all files and messages: strict schemas, names, and one clear error for each fault.

:class:`Frozen` is the base of all schemas. A union whose members differ by a key with a default uses
:func:`by_key`. :func:`parse_toml` and :func:`explain_validation` turn a fault in a file into one sentence.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError

from dura_common.errors import InputError

SITE_NAME = r"^[a-z][a-z0-9-]{1,30}$"
DIGEST = r"^[0-9a-f]{64}$"
WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

SiteName = Annotated[str, Field(pattern=SITE_NAME)]
Digest = Annotated[str, Field(pattern=DIGEST)]
Word = Annotated[str, Field(pattern=WORD)]

TAG = "="
"""First character of the tags of :func:`by_key`; it keeps tags apart from the keys of a file in error paths."""


class Frozen(BaseModel):
    """Base of all schemas: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def by_key(key: str, *choices: str) -> Discriminator:
    """Return the discriminator of a union whose members are tagged by :data:`TAG` and one of the ``choices``.

    An absent key means the first choice. (The tagged unions of pydantic require the key.)
    """

    def tag(value: Any) -> str | None:
        found = value.get(key, choices[0]) if isinstance(value, Mapping) else getattr(value, key, None)
        return TAG + found if isinstance(found, str) else None

    return Discriminator(
        tag,
        custom_error_type="unknown_choice",
        custom_error_message=f"{key} must be one of {', '.join(choices)}",
    )


def explain_validation(error: ValidationError, *, what: str) -> InputError:
    """Turn a pydantic error into one clear message: path and reason of the first fault, number of further faults."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(TAG)) or "the file as a whole"
    reason = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    return InputError(f"{what}: {where}: {reason}{more}")


def parse_toml(content: bytes, *, what: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        InputError: the content is not UTF-8 or not TOML; the message gives the position.
    """
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{what} is not valid TOML: {error}") from error


def check_site_name(name: str) -> str:
    """Return the name if a roster may list it.

    Raises:
        InputError: the name has characters other than a-z, digits and hyphens, or a wrong length.
    """
    if re.fullmatch(SITE_NAME, name) is None:
        raise InputError(
            f"a name must be 2 to 31 lower-case letters, digits or hyphens and begin with a letter, got {name[:40]!r}"
        )
    return name
