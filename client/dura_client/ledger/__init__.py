"""The record of privacy spending: durable, chained, and asked before anything is computed."""
