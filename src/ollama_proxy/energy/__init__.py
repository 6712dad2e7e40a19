"""Where joules come from and where they are booked."""
