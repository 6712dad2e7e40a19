"""Do the proxy and the simulator agree? The same requests through both, and what is different."""
