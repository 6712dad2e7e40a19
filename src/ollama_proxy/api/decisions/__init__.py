"""The API about decisions: those on record, and those that a request would get."""
