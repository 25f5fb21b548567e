"""What stands beside a recording and what it says: events, meanings of codes, the description of the recording."""
