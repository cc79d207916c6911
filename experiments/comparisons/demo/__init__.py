"""Eleven methods on digits with wrong labels, a whole run compiled: the smallest comparison."""
