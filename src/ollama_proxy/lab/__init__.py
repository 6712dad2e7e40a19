"""A fleet to try on: emulated devices with switchable faults."""
