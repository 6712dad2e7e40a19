"""The ledger: what each request cost, in one SQLite file, and the sums over it."""
