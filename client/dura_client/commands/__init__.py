"""The commands of `dura site`, one module for each task of the data manager or the privacy officer."""
