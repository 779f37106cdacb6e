// The steps of day.json, with whatever `call(service, tool, arguments)` a client offers.
import { readFileSync } from "node:fs";

const steps = JSON.parse(readFileSync(new URL("../day.json", import.meta.url), "utf-8"));

function filled(value, kept) {
  const text = JSON.stringify(value).replace(/\$(\w+)/g, (_, name) => kept[name]);
  return JSON.parse(text);
}

export async function day(client, call) {
  const kept = { client };
  for (const step of steps) {
    const answer = await call(step.service, step.tool, filled(step.arguments, kept));
    const said = answer.content.map((part) => part.text).join("\n");
    const facts = JSON.stringify(answer.structuredContent);
    if (answer.isError) throw new Error(`${step.tool}: ${said}`);
    for (const wanted of filled(step.says ?? [], kept)) {
      if (!said.includes(wanted)) throw new Error(`${step.tool} does not say ${wanted}: ${said}`);
      if (!facts.includes(wanted)) throw new Error(`${step.tool} has no ${wanted} in its facts: ${facts}`);
    }
    for (const gone of step.says_not ?? []) {
      if ((said + facts).includes(gone)) throw new Error(`${step.tool} still says ${gone}: ${said}`);
    }
    for (const [name, path] of Object.entries(step.keep ?? {})) {
      kept[name] = path.split(".").reduce((value, key) => value[key], answer.structuredContent);
    }
  }
  console.log(`${steps.length} steps`);
}
