"""``python -m dura_client.node.supernode SOCKET ...``: Flower's SuperNode as dura starts it."""

import sys
from pathlib import Path

from dura_client.node.supernode_adapter import run_supernode

if __name__ == "__main__":
    run_supernode(Path(sys.argv.pop(1)))
