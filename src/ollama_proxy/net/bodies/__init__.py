"""What is read from bodies, and how: as Go reads JSON, member by member, by name."""
