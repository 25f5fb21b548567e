"""The policy of a hospital: the rules of its privacy officer, and the check of a study against these rules."""

from dura_common.policy.judge import Finding, judge, judge_members
from dura_common.policy.rules import Policy, parse_policy

__all__ = ["Finding", "Policy", "judge", "judge_members", "parse_policy"]
