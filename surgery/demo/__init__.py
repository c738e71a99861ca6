"""The demo: all-MiniLM-L6-v2 learns to find functions of Python's standard library by what they are said to do."""
