"""The benchmark harness: crdtdb beside what people would use instead, on the same work, in one run.

    python -m benchmarks run        measure, and keep the results as JSON
    python -m benchmarks report     make a report in Markdown, with plots, from results
    python -m benchmarks compare    put two results side by side, or the counts of now beside those that are kept

Nothing here asserts a time: the machines that run it are noisy. Every comparison is a ratio of two things that were measured in
turns, round by round, at the same durability, and the report says between which bounds the rounds lay.
"""
