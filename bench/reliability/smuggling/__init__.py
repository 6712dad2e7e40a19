"""Do others draw the borders between requests where we draw them? Mutated streams, other servers, a recorder."""
