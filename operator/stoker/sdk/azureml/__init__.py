"""Azure ML's files as they are: command jobs, components, environments, compute, and run configurations of version 1.

Pure but for reading files that a file names. `fields` says of every key whether it works, warns or is refused; the
readers ask it, and docs/azure.md is printed from it.
"""
