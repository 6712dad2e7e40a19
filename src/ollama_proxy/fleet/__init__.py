"""Live state of the backends, with one writer: health, learned rates, load."""
