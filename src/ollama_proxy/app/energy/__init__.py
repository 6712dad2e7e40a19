"""What requests cost and what devices draw: meters at work, bills, rows of the ledger, temperatures of this machine."""
