"""The durable, hash-chained record of privacy spending, which decides before anything is computed."""
