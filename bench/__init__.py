"""The bench: what a request costs through this proxy and through others, on one machine, in one run. See bin/bench."""
