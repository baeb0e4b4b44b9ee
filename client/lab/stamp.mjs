// Tidies what was built, and writes beside it the SHA-256 of the sources that it was built from: see
// tests/client/test_lab_sources.py. Source maps and what a second build leaves over are removed.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

const built = new URL('../mudeung_session/labextension/mudeung-session/', import.meta.url);
const here = new URL('./', import.meta.url);

const sources = ['package.json', 'tsconfig.json'];
for (const folder of ['src', 'style']) {
  sources.push(...readdirSync(new URL(folder, here)).map(name => `${folder}/${name}`));
}
sources.sort();
const hash = createHash('sha256');
for (const name of sources) {
  const text = readFileSync(new URL(name, here));
  hash.update(`${name}\0${text.length}\0`);
  hash.update(text);
}

for (const name of readdirSync(new URL('static/', built))) {
  if (name.endsWith('.map')) {
    rmSync(new URL(`static/${name}`, built));
  }
}
writeFileSync(new URL('sources.sha256', built), `${hash.digest('hex')}\n`);
