"""Vector stores measured: how fast each takes and finds vectors, and how well passages are found by what they say."""
