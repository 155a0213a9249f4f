"""The workshop: an agent asks for a tool that it lacks, and the operator has it written, judged, built and isolated."""
