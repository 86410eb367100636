//! What does a step cost? Micro benchmarks of the way of one call.
