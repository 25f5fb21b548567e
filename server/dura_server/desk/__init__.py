"""The researcher's desk: a researcher's membership, the signed requests of the desk, and the coordinator's answers."""
