"""From what is there to what should be: observe, decide in stages, apply, report."""
