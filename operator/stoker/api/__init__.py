"""The vocabulary: Stoker's resources and the parts of Kubernetes' that we read, as typed values. No behaviour, no I/O."""
