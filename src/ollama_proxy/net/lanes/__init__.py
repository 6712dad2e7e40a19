"""The ways an upstream's answer takes to the client, and what breaking off means to each."""
