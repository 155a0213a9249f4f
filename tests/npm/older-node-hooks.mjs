// Module hooks of Node.js: the suite's `fs` is one that has globSync.
const FS = `
export * from "node:fs";
export { default } from "node:fs";
export function globSync() { throw new Error("fs.globSync needs Node.js 22"); }
`;
const SHIM = `data:text/javascript,${encodeURIComponent(FS)}`;

export async function resolve(specifier, context, next) {
  const wanted = specifier === "fs" && context.parentURL?.includes("/@modelcontextprotocol/conformance/");
  return wanted ? { url: SHIM, shortCircuit: true } : next(specifier, context);
}
