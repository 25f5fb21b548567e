"""The only way out: the gate, what each draw costs, and what is computed for a sum."""
