"""What is in a file, as text: what it is, and a reader for each kind."""
