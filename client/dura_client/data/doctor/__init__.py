"""The doctor: looks at a registered data set and says what a study would meet, for the data manager's own eyes."""
