"""What hospitals and coordinator must agree on: schemas, signatures, models, privacy accounting.

Nothing here knows either side. Everything outside :mod:`dura_common.runtime` and the command-line root is
free of input and output: it takes values and returns values or raises.
"""

from importlib.metadata import version

__version__ = version("dura")
