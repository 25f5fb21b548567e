"""The members of a consortium: identities and their keys, signed envelopes, cards and rosters."""
