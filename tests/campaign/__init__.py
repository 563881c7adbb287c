"""Tests of `cluster.campaign`."""
