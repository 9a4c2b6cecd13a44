"""Batch jobs: read the lake, write the lake, raise alerts. None is needed for the main job.

A run: ``scheduler`` finds a job due, ``job_runner`` claims it in the lake, ``process`` starts ``tailrace job run``.
That command takes the job from ``tailrace/batch_jobs/NAME.py``, which turns settings into arguments, some by
``tailrace/job_runs/``, and calls the work, which is here: ``jobs/NAME/`` or ``jobs/NAME.py``.
"""
