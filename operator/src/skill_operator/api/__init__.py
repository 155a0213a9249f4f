"""The Skill API: its types, its conditions, its CustomResourceDefinition and what only this side can validate."""
