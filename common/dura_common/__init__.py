"""Everything on which hospitals and coordinator must agree: schemas, signatures, models, privacy accounting.

Nothing here depends on one side. Outside :mod:`dura_common.runtime` and the command-line root, nothing does input or
output: functions take values, and return values or raise.
"""

from importlib.metadata import version

__version__ = version("dura")
