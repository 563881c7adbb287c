"""Tests of admission, money, leases and the pool."""
