// Lets the conformance suite run on Node.js 20: it imports fs.globSync, of Node.js 22, which it needs for no server.
import { register } from "node:module";

register(import.meta.url.replace("older-node.mjs", "older-node-hooks.mjs"));
