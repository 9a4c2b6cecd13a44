"""The gate from the command line: files, the lake, endpoints and clocks around ``jobs.gate``."""
