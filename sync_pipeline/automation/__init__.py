"""Jobs and schedules, built from the tenants' workflows."""
