"""From the settings to one run of a batch job: what it reads, and where its records and alerts go."""
