-- The actions that a Skill offers in its present state.
local awaits, suspended = false, obj.spec ~= nil and obj.spec.suspend == true
local not_ready = false
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, one in ipairs(obj.status.conditions) do
    if one.type == "Built" and one.status ~= "True" and one.reason == "AwaitingApproval" then
      awaits = one.observedGeneration == nil or one.observedGeneration == obj.metadata.generation
    end
    if one.type == "Ready" and one.status ~= "True" then
      not_ready = true
    end
  end
end
return {
  approve = {disabled = not awaits},
  reject = {disabled = not awaits, params = {{name = "message"}}},
  retry = {disabled = awaits or not not_ready},
  suspend = {disabled = suspended},
  resume = {disabled = not suspended},
}
