"""One request's life as a sans-IO machine: attempts, retries, the end."""
