"""The commands of `dura coordinator` and `dura study`, one module per task."""
