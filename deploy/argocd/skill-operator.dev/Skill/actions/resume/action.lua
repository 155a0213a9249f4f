-- Lets the Skill wake again.
obj.spec.suspend = false
return obj
