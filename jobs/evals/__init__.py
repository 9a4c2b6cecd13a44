"""Online evals: production calls are sampled, scored and summarised every week.

A run goes: ``sample`` draws calls of a week → ``case`` holds one call as a value → ``scorers`` give it a score →
``job`` publishes each score as an ``eval`` event, which lands like others → ``summary`` makes the report's numbers.
"""
