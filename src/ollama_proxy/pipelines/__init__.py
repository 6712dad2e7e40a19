"""Named chains of stages: what they are, whether they make sense, and running them over ports. No I/O, no clock."""
