"""Azure's import names with `stoker.` in front, for code that was written for Azure ML.

    from stoker.azure.ai.ml import MLClient, command, Input, Output

What exists here is the SDK of `stoker` itself. What does not is told when it is imported, by its name.
"""
