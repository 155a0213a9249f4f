-- Runs a script of Argo CD as Argo CD does: with `obj` and, for an action with parameters, `actionParams`.
-- `lua5.1 argocd.lua SCRIPT` reads both as a Lua table from standard input, and writes what the script returns as JSON.
local given = assert(loadstring("return " .. io.read("*a")))()
obj, actionParams = given.obj, given.params

local function quoted(text)
  return '"' .. string.gsub(text, '[%c"\\]', function(c) return string.format("\\u%04x", string.byte(c)) end) .. '"'
end

local function json(value)
  if type(value) == "string" then return quoted(value) end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  if #value > 0 then
    for _, each in ipairs(value) do table.insert(parts, json(each)) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, each in pairs(value) do table.insert(parts, quoted(name) .. ":" .. json(each)) end
  return "{" .. table.concat(parts, ",") .. "}"
end

print(json(assert(loadfile(arg[1]))()))
