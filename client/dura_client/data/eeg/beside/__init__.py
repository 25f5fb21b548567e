"""What stands beside a recording and what it says: events, meanings of their codes, the description of the recording."""
