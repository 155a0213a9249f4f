-- Rejects what the Skill awaits approval for, with words that the next attempt gets as feedback. See approve.
local user = "system:serviceaccount:argocd:argocd-server"
local words = actionParams ~= nil and actionParams["message"] or nil

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
annotations["skill-operator.dev/reject"] = token
annotations["skill-operator.dev/reject-message"] = words ~= nil and words ~= "" and words or "Rejected in Argo CD."
annotations["skill-operator.dev/rejected-by"] = user
return obj
