"""How the site becomes a member of a consortium, and the roster that it follows."""
