"""What-if: a trace of requests against a fleet policy, by discrete events; and the arithmetic of a plan.

Nothing here talks to a cluster. The policies are the ones that run in it.
"""
