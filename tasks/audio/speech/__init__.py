"""Speech: units, transcripts, alignments, and error rates."""
