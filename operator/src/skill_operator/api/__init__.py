"""Define the Skill API: types, conditions, CustomResourceDefinition, and validation beyond the API server's."""
