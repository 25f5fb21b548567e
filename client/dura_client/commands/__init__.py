"""The commands of `dura site`, one module per task of the data manager or privacy officer."""
