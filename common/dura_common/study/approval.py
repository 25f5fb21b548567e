"""A site's approval of one study digest: the same signed document for the site and the coordinator."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, ValidationError

from dura_common.study.validation import Digest, Frozen, SiteName, explain_validation

APPROVAL_TYPE = "application/vnd.dura.approval+json"


class Approval(Frozen):
    """What the site's identity key signs."""

    format: Literal[1] = 1
    study: Digest
    roster: Digest
    site: SiteName
    approved: AwareDatetime
    expires: AwareDatetime


def parse_approval(payload: bytes) -> Approval:
    """Validate the payload of a verified envelope.

    Raises:
        InputError: the payload does not have the expected form.
    """
    try:
        return Approval.model_validate_json(payload)
    except ValidationError as error:
        raise explain_validation(error, what="the approval") from error
