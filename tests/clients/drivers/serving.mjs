// What every Node driver shares; serving.py says what a question and an answer are.
//
// The client is loaded from CLIENT_HOME, where it is installed.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

export const load = createRequire(`${process.env.CLIENT_HOME}/package.json`);

// What a client prints goes to standard error.
console.log = console.info = console.error;

export const area = ({ width, height }) => width * height;

export class Seen {
  text = "";
  pieces = 0;
  usage = null;

  piece(text) {
    if (text) {
      this.text += text;
      this.pieces += 1;
    }
  }

  counted(input, output) {
    this.usage = [input ?? 0, output ?? 0];
  }
}

// The names of what was thrown: of its class, and of those above it.
function kinds(raised) {
  const names = [];
  for (let at = Object(raised); at; at = Object.getPrototypeOf(at)) names.push(at.constructor.name);
  return names;
}

export async function serve(ops) {
  for await (const line of createInterface({ input: process.stdin })) {
    const ask = JSON.parse(line);
    const seen = new Seen();
    const began = performance.now();
    let error = null;
    try {
      await ops[ask.op](ask, seen);
    } catch (raised) {
      error = { kinds: kinds(raised), text: String(raised?.message ?? raised) };
    }
    const seconds = (performance.now() - began) / 1000;
    process.stdout.write(`${JSON.stringify({ ...seen, error, seconds })}\n`);
  }
}
