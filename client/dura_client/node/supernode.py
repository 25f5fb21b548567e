"""``python -m dura_client.node.supernode``: Flower's SuperNode as dura starts it."""

from dura_client.node.supernode_adapter import run_supernode

if __name__ == "__main__":
    run_supernode()
