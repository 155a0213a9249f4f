// An agent with the official MCP client for TypeScript: it lacks a tool, asks for it, follows how it is made, and calls it.
// node agent.mjs URL TOKEN reads {"wanted": …, "input": …} and prints what it saw.
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, token] = process.argv.slice(2);
const { wanted, input } = JSON.parse(readFileSync(0, "utf8"));
const client = new Client({ name: "skill-operator-tests", version: "1" });
const headers = { Authorization: `Bearer ${token}` };
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));

const words = [];
const following = {
  timeout: 60_000,
  resetTimeoutOnProgress: true,
  onprogress: ({ message }) => words.push(message ?? ""),
};
const list = async () => (await client.listTools()).tools.map(({ name }) => name);
const call = async (name, given) =>
  (await client.callTool({ name, arguments: given }, undefined, following)).structuredContent;

const before = await list();
const found = await call("find_skills", { query: wanted.summary });
let task = await call("create_skill", wanted);
for (let polls = 0; task.status === "working" && polls < 120; polls += 1) {
  await pause(1000);
  task = await call("skill_status", { taskId: task.taskId });
}
const after = await list();
const answer = task.tool === undefined ? null : await call(task.tool, input);
console.log(JSON.stringify({ before, found, words, task, after, answer }));
await client.close();
