"""Recordings as files: what their bytes say before any reader, and their samples in blocks, by clock and in volts."""
