"""Batch jobs: read the lake, write the lake, raise alerts. None is needed for the main job."""
