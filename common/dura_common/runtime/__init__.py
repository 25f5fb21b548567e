"""What both sides run on: files, console output, child processes; the only part of common with side effects."""
