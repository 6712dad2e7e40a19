"""What people and machines can see of a running proxy: logs and metrics."""
