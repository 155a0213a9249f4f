-- Approves what the Skill awaits approval for. Argo CD writes under an account of its own, so its name is recorded:
-- who asked Argo CD is in its own log. Another installation than the usual one has another name here.
local user = "system:serviceaccount:argocd:argocd-server"

-- The token stands for exactly what was reviewed: of anything else it approves nothing.
local request = obj.status and obj.status.approvalRequest
if request == nil then error("this Skill awaits no approval") end
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
local annotations = obj.metadata.annotations
annotations["skill-operator.dev/approve"] = request.token
annotations["skill-operator.dev/approved-by"] = user
return obj
