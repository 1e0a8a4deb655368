"""MegaCity Serve: one router in front of every engine, as Ray Serve deployments."""

__version__ = "0.1.0"
