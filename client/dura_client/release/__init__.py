"""The only way for results to leave the site: the gate, the payment of each draw, and the computation for a sum."""
