"""Jobs, schedules and sensors, built from the tenants and their workflows."""
