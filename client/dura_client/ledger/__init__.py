"""The record of privacy spending. It is durable and hash-chained, and it decides before anything is computed."""
