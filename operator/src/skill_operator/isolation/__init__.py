"""The cage as a whole: which networks it keeps shut, and the lasting proof that this cluster enforces it."""
