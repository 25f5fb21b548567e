"""The study, the signed plan of one training: its file and its checks, from where other folders import."""

from dura_common.study.aggregation import Aggregation
from dura_common.study.data import (
    COLUMN_LABELS,
    AnyContract,
    ConnectomeContract,
    DataContract,
    SignalContract,
    TableContract,
)
from dura_common.study.evaluation import Evaluation
from dura_common.study.leaving_out import LeavingOut
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
    "COLUMN_LABELS",
    "MAX_STEPS",
    "MINIMUM_HONEST_SITES",
    "STUDY_TYPE",
    "WORD",
    "Aggregation",
    "AnyContract",
    "ConnectomeContract",
    "DataContract",
    "Digest",
    "Evaluation",
    "Frozen",
    "LeavingOut",
    "LocalNoise",
    "NoNoise",
    "PatientNoise",
    "Privacy",
    "SharedNoise",
    "SignalContract",
    "SiteName",
    "Study",
    "StudyDocument",
    "TableContract",
    "Word",
    "check_site_name",
    "explain_validation",
    "parse_study",
    "parse_toml",
    "require_unexpired",
]
