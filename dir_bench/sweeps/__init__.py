"""Many runs from one file: what is to be done, on which processes, and what came of it."""
