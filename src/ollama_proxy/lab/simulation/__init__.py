"""The simulator: workloads, policies and emulated devices in virtual time."""
