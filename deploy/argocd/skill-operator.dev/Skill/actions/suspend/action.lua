-- Puts the Skill to sleep, and keeps it from waking.
obj.spec.suspend = true
return obj
