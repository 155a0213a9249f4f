-- Rejects what the Skill awaits approval for, with words that the next attempt gets as feedback. See approve.
local user = "system:serviceaccount:argocd:argocd-server"
local words = actionParams ~= nil and actionParams["message"] or nil

-- The token stands for exactly what was reviewed: of anything else it approves nothing.
local request = obj.status and obj.status.approvalRequest
if request == nil then error("this Skill awaits no approval") end
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
local annotations = obj.metadata.annotations
annotations["skill-operator.dev/reject"] = request.token
annotations["skill-operator.dev/reject-message"] = words ~= nil and words ~= "" and words or "Rejected in Argo CD."
annotations["skill-operator.dev/rejected-by"] = user
return obj
