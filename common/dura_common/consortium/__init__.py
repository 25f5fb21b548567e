"""Who is a member: identities and their keys, signed envelopes, cards and rosters."""
