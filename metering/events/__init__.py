"""Events: what happened. Lines come in, batches of the lake come out; see README.md."""
