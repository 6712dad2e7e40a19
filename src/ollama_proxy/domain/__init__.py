"""The words every other room uses: calls, answers, devices, decisions, errors. No I/O, no clock, no dice."""
