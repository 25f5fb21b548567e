"""``python -m dura_common`` is the ``dura`` command, for callers that know their interpreter but not their PATH."""

from dura_common.runtime.cli import main

main()
