"""One request on its way, from the call to its books."""
