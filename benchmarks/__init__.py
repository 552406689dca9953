"""The benchmark harness: `make bench`. Ratios taken within one run on one machine; nothing here asserts a time."""
