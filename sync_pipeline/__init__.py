"""Meta ad spend and Pancake POS orders of many tenants, per day, in Postgres, through Dagster."""
