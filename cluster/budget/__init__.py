"""Admission, money, leases, and the pool of call actors."""
