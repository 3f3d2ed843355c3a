"""Reading audio files: headers, samples, folders, and files that are damaged."""
