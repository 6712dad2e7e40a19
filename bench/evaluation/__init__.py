"""The evaluation: do the routing policies reach their goals, on emulated devices in virtual time? See bin/evaluate."""
