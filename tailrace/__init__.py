"""The command line and all that it starts. Only this package reads settings and signals and has the supervisor."""
