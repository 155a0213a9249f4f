-- The health of a Skill. A Skill that sleeps is healthy: the next call wakes it.
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, one in ipairs(obj.status.conditions) do
    conditions[one.type] = one
  end
end
local generation = obj.metadata.generation
local function is_current(condition)
  return condition ~= nil and (condition.observedGeneration == nil or condition.observedGeneration == generation)
end

local ready, stalled = conditions.Ready, conditions.Stalled
if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "being deleted"}
end
if ready == nil or not is_current(ready) then
  return {status = "Progressing", message = "the operator has not seen this version yet"}
end
if stalled ~= nil and stalled.status == "True" and is_current(stalled) then
  return {status = "Degraded", message = stalled.message}
end
if ready.reason == "AwaitingApproval" then
  return {status = "Suspended", message = ready.message}
end
if ready.status == "True" then
  if obj.spec ~= nil and obj.spec.suspend == true then
    return {status = "Suspended", message = "spec.suspend keeps it from waking"}
  end
  local active = conditions.Active
  return {status = "Healthy", message = active ~= nil and active.reason or ""}
end
return {status = "Progressing", message = ready.message}
