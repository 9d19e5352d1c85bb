"""What a person writes in Python: jobs, their data and environments, compute. Values, with the constructors of Azure ML's SDK."""
