"""HTTP/2 (RFC 9113) on the server side: a sans-IO core, and the protocol object that feeds it."""
