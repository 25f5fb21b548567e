"""Recordings held against one another: copies, and channels that were exchanged."""
