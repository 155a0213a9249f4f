"""The reconcile package turns a Skill into what should run: it observes, decides in stages, applies and reports."""
