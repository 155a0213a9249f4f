-- Approves what the Skill awaits approval for. Argo CD writes under an account of its own, so its name is recorded:
-- who asked Argo CD is in its own log. Another installation than the usual one has another name here.
local user = "system:serviceaccount:argocd:argocd-server"

-- The token stands for exactly what was reviewed: of anything else it approves nothing.
local function awaited_token()
  if obj.status == nil then return nil end
  if obj.status.approvalRequest ~= nil then return obj.status.approvalRequest.token end
  for _, one in ipairs(obj.status.conditions or {}) do
    if one.type == "Built" and one.status ~= "True" and one.reason == "AwaitingApproval" then
      return string.match(one.message or "", "skill%-operator%.dev/approve=(%x+)")
    end
  end
  return nil
end

local token = awaited_token()
if token == nil then error("this Skill awaits no approval") end
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
local annotations = obj.metadata.annotations
annotations["skill-operator.dev/approve"] = token
annotations["skill-operator.dev/approved-by"] = user
return obj
