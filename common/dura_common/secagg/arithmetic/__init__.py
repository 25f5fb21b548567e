"""Arithmetic under the protocol: keystreams on all cores, and Shamir's secret sharing."""
