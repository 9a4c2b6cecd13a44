"""Rows, pages and texts for a terminal or a file. No command is defined here."""
