"""What operators copy works: sample files validate, and units verify."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dura_common.policy import judge, parse_policy
from dura_common.privacy.plan import plan_of
from dura_common.study import parse_study
from dura_common.study.warnings import warnings_of

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy" / "examples").iterdir())
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_study_and_policy_fit_each_other(folder: Path) -> None:
    """Each example validates without a warning, and its policy lets its own study pass at every site that it lists."""
    study = parse_study((folder / "study.toml").read_bytes())
    assert warnings_of(study) == ()
    policy = parse_policy((folder / "policy.toml").read_bytes())
    broken = plan_of(study).epsilon_if_broken
    for site in study.sites:
        findings = judge(policy, study, site=site, public_data=False, epsilon_if_broken=broken)
        failed = [f.sentence for f in findings if not f.passed]
        assert failed == []


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_verifies(unit: Path, tmp_path: Path) -> None:
    """Systemd finds no fault in a unit, the program's place on the target machine aside."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/dura/bin/dura", "/bin/true"))
    answer = subprocess.run([str(ANALYZE), "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr.strip()) == (0, "")
