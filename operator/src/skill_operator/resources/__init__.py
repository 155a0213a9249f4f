"""Pure builders of everything the operator applies: from a Skill and the settings to a plain dict, one file a kind."""
