"""The front door: what a person starts. Settings, signals and the supervisor live here and nowhere else."""
