"""Who may do what: keys, the gate that every request passes, and the audit log."""
