"""The pages about kept answers."""
