"""Who is behind the proxy: built from the configuration, probed, joined by the embedded model."""
