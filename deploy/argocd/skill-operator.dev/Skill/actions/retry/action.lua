-- Has the operator try again what it gave up.
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
obj.metadata.annotations["skill-operator.dev/retry"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
