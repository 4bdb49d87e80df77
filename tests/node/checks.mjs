// A minimal runner: `test(name, body)` registers, `run()` executes all against HOST PORT and prints one line
// per test, `ok NAME` or `not ok NAME: error`. The Python side collects the names from the source text.
import assert from 'node:assert/strict';

const tests = [];
export const [host, port] = [process.argv[2], Number(process.argv[3])];

export function test(name, body) {
  tests.push({ name, body });
}

function limited(promise, ms) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

export async function run() {
  for (const { name, body } of tests) {
    try {
      await limited(body(), 40000);
      console.log(`ok ${name}`);
    } catch (error) {
      const text = String(error?.stack ?? error).slice(0, 800).replaceAll('\n', ' | ');
      console.log(`not ok ${name}: ${text}`);
    }
  }
  process.exit(0);
}

/** Deterministic bytes that look random. */
export function noise(size, seed = 1) {
  const out = Buffer.alloc(size);
  let x = seed >>> 0 || 1;
  for (let i = 0; i < size; i++) {
    x ^= x << 13; x ^= x >>> 17; x ^= x << 5;
    out[i] = x;
  }
  return out;
}

/** Polls until `condition` resolves to something true. */
export async function until(condition, what) {
  const deadline = Date.now() + 10000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export { assert };
