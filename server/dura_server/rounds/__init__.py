"""One run of a study: approvals, rounds, evaluation, carried by Flower's messages."""
