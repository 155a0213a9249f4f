"""The verbs of `kubectl skill`, one module each; `kubectl_skill.app.VERBS` lists them."""
