"""The agreement of coordinator and sites on one secure sum: its parameters, its attempts, its messages."""
