"""Sections that studies share: each turns runs into blocks of a report."""
