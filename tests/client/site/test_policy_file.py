"""The policy file that `dura site policy init` writes: it reads back as itself, with both noise modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.policies import RULES

from dura_client.site.home import SiteHome
from dura_client.site.policy import explain, load_policy, write_policy
from dura_common.policy import Policy


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Noise shared with other sites is refused."),
        ({"noise": ("local", "shared"), "epsilon_if_broken": 20.0}, "at most epsilon 20"),
        ({"noise": ("shared",)}, "Noise shared with other sites is refused."),
    ],
)
def test_a_written_policy_reads_back_as_itself(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    """Whatever the noise rules, the file holds the same policy, and its sentences say what is allowed."""
    home = SiteHome(tmp_path)
    policy = Policy(**{**RULES, **changes})
    write_policy(home, policy)
    assert load_policy(home) == policy
    assert any(sentence in line for line in explain(policy))
