"""What the lineage graph shows of a tenant: its accounts and shops, its costs, its insights and orders by day."""
