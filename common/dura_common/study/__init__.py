"""The study, the signed plan of one training: its file and its checks. Other folders import from here."""

from dura_common.study.aggregation import Aggregation
from dura_common.study.data import DataContract
from dura_common.study.evaluation import Evaluation
from dura_common.study.noise import LocalNoise, NoNoise, PatientNoise, Privacy, SharedNoise
from dura_common.study.study import (
    MAX_STEPS,
    MINIMUM_HONEST_SITES,
    STUDY_TYPE,
    Study,
    StudyDocument,
    parse_study,
    require_unexpired,
)
from dura_common.study.validation import (
    WORD,
    Digest,
    Frozen,
    SiteName,
    Word,
    check_site_name,
    explain_validation,
    parse_toml,
)

__all__ = [
    "MAX_STEPS",
    "MINIMUM_HONEST_SITES",
    "STUDY_TYPE",
    "WORD",
    "Aggregation",
    "DataContract",
    "Digest",
    "Evaluation",
    "Frozen",
    "LocalNoise",
    "NoNoise",
    "PatientNoise",
    "Privacy",
    "SharedNoise",
    "SiteName",
    "Study",
    "StudyDocument",
    "Word",
    "check_site_name",
    "explain_validation",
    "parse_study",
    "parse_toml",
    "require_unexpired",
]
