"""What runs beside Serve in a cluster: the node agent, the way to spot machines, and the fleet policy in force."""
