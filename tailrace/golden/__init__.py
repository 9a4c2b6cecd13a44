"""Golden sets from the command line: reviews of cases, sheets, exports."""
